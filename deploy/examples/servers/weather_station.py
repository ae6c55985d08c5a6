"""A sample MCP server: climate normals of some cities and the usual weather formulas. Nothing is fetched."""

from datetime import date, timedelta
from math import acos, cos, exp, log, pi, radians, sin, tan
from typing import Annotated, Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import Field

server = MCPServer(
    "weather-station",
    version="1.0.0",
    instructions="Climate of large cities by month, and weather formulas. It knows averages, not forecasts.",
    log_level="WARNING",
)
READ_ONLY = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)

Celsius = Annotated[float, Field(ge=-90, le=60, description="Air temperature in degrees Celsius")]
Humidity = Annotated[float, Field(gt=0, le=100, description="Relative humidity in percent")]
City = Annotated[str, Field(min_length=1, description="City, in English, such as 'Singapore' or 'Berlin'")]
Day = Annotated[date | None, Field(description="ISO date, such as 2026-05-17; tomorrow if left out")]

# Monthly normals, rounded: mean temperature in °C, and days with at least 1 mm of rain.
CLIMATE: dict[str, tuple[list[float], list[int]]] = {
    "Berlin": ([1, 2, 5, 10, 15, 18, 20, 19, 15, 10, 5, 2], [10, 8, 9, 8, 9, 9, 10, 9, 8, 8, 9, 11]),
    "Cairo": ([14, 15, 18, 22, 26, 28, 29, 29, 27, 24, 19, 15], [3, 2, 2, 1, 1, 0, 0, 0, 0, 1, 2, 3]),
    "London": ([6, 6, 8, 10, 14, 17, 19, 19, 16, 12, 9, 6], [11, 9, 8, 9, 8, 8, 8, 8, 8, 10, 11, 11]),
    "Mumbai": ([24, 25, 27, 29, 30, 29, 28, 27, 28, 29, 27, 25], [0, 0, 0, 0, 1, 14, 23, 22, 14, 3, 1, 0]),
    "New York": ([1, 2, 6, 12, 17, 22, 25, 25, 21, 15, 9, 4], [8, 8, 9, 9, 9, 9, 8, 8, 7, 7, 7, 9]),
    "Nairobi": ([19, 20, 20, 19, 18, 17, 16, 16, 18, 19, 19, 18], [5, 4, 8, 15, 12, 4, 3, 3, 4, 8, 14, 9]),
    "Paris": ([5, 6, 9, 12, 16, 19, 21, 21, 17, 13, 8, 6], [10, 9, 9, 9, 10, 8, 8, 7, 8, 10, 10, 11]),
    "San Francisco": ([11, 12, 13, 14, 15, 16, 16, 17, 18, 17, 14, 11], [10, 10, 9, 5, 3, 1, 0, 0, 1, 3, 7, 10]),
    "Sao Paulo": ([23, 23, 22, 21, 18, 17, 17, 18, 19, 20, 21, 22], [15, 14, 11, 7, 6, 4, 4, 4, 7, 10, 11, 14]),
    "Singapore": ([27, 27, 28, 28, 29, 28, 28, 28, 28, 28, 27, 27], [13, 8, 13, 14, 14, 13, 14, 14, 13, 15, 19, 19]),
    "Sydney": ([24, 24, 22, 20, 17, 14, 13, 15, 17, 19, 21, 23], [8, 9, 10, 9, 9, 9, 7, 6, 7, 8, 9, 8]),
    "Tokyo": ([5, 6, 9, 14, 19, 22, 26, 27, 23, 18, 13, 8], [5, 6, 10, 10, 10, 12, 12, 8, 12, 10, 7, 5]),
    "Toronto": ([-4, -3, 1, 7, 13, 19, 22, 21, 17, 11, 5, -1], [9, 8, 8, 9, 9, 9, 8, 8, 8, 8, 9, 9]),
}
WET_CITY_MM_PER_DAY = 8


def _climate(city: str) -> tuple[str, list[float], list[int]]:
    for name, (temperatures, rain_days) in CLIMATE.items():
        if name.casefold() == city.strip().casefold():
            return name, temperatures, rain_days
    raise ToolError(f"No climate is known for {city!r}. Known cities: {', '.join(CLIMATE)}.")


def _days_in(year: int, month: int) -> int:
    return (date(year + month // 12, month % 12 + 1, 1) - date(year, month, 1)).days


@server.tool(title="Chance of rain", annotations=READ_ONLY)
def rain_chance(city: City, day: Day = None) -> dict[str, Any]:
    """How likely it is to rain in a city on a given day or tomorrow, and whether to take an umbrella.

    From the climate of the month, not a forecast: the share of days with rain.
    """
    name, _, rain_days = _climate(city)
    when = day or date.today() + timedelta(days=1)
    chance = rain_days[when.month - 1] / _days_in(when.year, when.month)
    if chance >= 0.4:
        advice = "Take an umbrella."
    elif chance >= 0.2:
        advice = "A small umbrella does no harm."
    else:
        advice = "You can leave the umbrella at home."
    return {"city": name, "day": when.isoformat(), "chance_percent": round(100 * chance), "advice": advice}


@server.tool(title="Climate of a city", annotations=READ_ONLY)
def city_climate(
    city: City, month: Annotated[int | None, Field(ge=1, le=12, description="1 to 12; all months if left out")] = None
) -> dict[str, Any]:
    """Average temperature and number of rainy days of a city, for a month or the whole year: when to travel."""
    name, temperatures, rain_days = _climate(city)
    months = [month] if month else range(1, 13)
    rows = [{"month": m, "mean_celsius": temperatures[m - 1], "rainy_days": rain_days[m - 1]} for m in months]
    return {"city": name, "months": rows}


@server.tool(title="Dew point", annotations=READ_ONLY)
def dew_point(temperature_c: Celsius, humidity_percent: Humidity) -> dict[str, float]:
    """The temperature at which dew or fog forms, from air temperature and humidity (Magnus formula)."""
    gamma = log(humidity_percent / 100) + 17.625 * temperature_c / (243.04 + temperature_c)
    return {"dew_point_c": round(243.04 * gamma / (17.625 - gamma), 1)}


@server.tool(title="Feels like in heat", annotations=READ_ONLY)
def humidex(temperature_c: Celsius, humidity_percent: Humidity) -> dict[str, Any]:
    """How hot humid air feels (Canadian humidex), and how much discomfort to expect on a muggy day."""
    dew_k = 273.15 + dew_point(temperature_c, humidity_percent)["dew_point_c"]
    vapour_hpa = 6.11 * exp(5417.7530 * (1 / 273.16 - 1 / dew_k))
    value = temperature_c + 5 / 9 * (vapour_hpa - 10)
    bands = ((30, "little discomfort"), (40, "some discomfort"), (46, "great discomfort, avoid exertion"))
    feeling = next((words for limit, words in bands if value < limit), "dangerous, heat stroke is possible")
    return {"humidex": round(value, 1), "feeling": feeling}


@server.tool(title="Wind chill", annotations=READ_ONLY)
def wind_chill(
    temperature_c: Celsius, wind_kmh: Annotated[float, Field(ge=0, le=400, description="Wind speed in km/h")]
) -> dict[str, float]:
    """How cold it feels in wind, in degrees Celsius. Defined up to 10 °C and from 4.8 km/h; else the air itself."""
    if temperature_c > 10 or wind_kmh < 4.8:
        return {"feels_like_c": temperature_c}
    power = wind_kmh**0.16
    chill = 13.12 + 0.6215 * temperature_c - 11.37 * power + 0.3965 * temperature_c * power
    return {"feels_like_c": round(chill, 1)}


@server.tool(title="Wind force", annotations=READ_ONLY)
def beaufort(wind_ms: Annotated[float, Field(ge=0, le=150, description="Wind speed in m/s")]) -> dict[str, Any]:
    """The Beaufort number and name of a wind speed: breeze, gale, storm or hurricane."""
    limits = (0.3, 1.6, 3.4, 5.5, 8.0, 10.8, 13.9, 17.2, 20.8, 24.5, 28.5, 32.7)
    names = (
        "calm", "light air", "light breeze", "gentle breeze", "moderate breeze", "fresh breeze", "strong breeze",
        "near gale", "gale", "strong gale", "storm", "violent storm", "hurricane",
    )  # fmt: skip
    force = sum(wind_ms >= limit for limit in limits)
    return {"force": force, "name": names[force]}


@server.tool(title="Length of the day", annotations=READ_ONLY)
def day_length(
    latitude: Annotated[float, Field(ge=-90, le=90, description="Degrees, north is positive")], day: Day = None
) -> dict[str, Any]:
    """Hours of daylight between sunrise and sunset at a latitude on a date (polar day and night included)."""
    when = day or date.today() + timedelta(days=1)
    # Declination after Cooper; the sun's upper edge counts, with refraction: 0.833° below the horizon.
    declination = radians(23.45) * sin(2 * pi * (284 + when.timetuple().tm_yday) / 365)
    lat = radians(max(-89.99, min(89.99, latitude)))
    x = (sin(radians(-0.833)) - sin(lat) * sin(declination)) / (cos(lat) * cos(declination))
    hours = 24.0 if x <= -1 else 0.0 if x >= 1 else 24 * acos(x) / pi
    return {"day": when.isoformat(), "hours": round(hours, 2), "sun": "no night" if hours == 24 else "rises and sets"}


@server.tool(title="Solar elevation at noon", annotations=READ_ONLY)
def noon_sun(
    latitude: Annotated[float, Field(ge=-90, le=90, description="Degrees, north is positive")], day: Day = None
) -> dict[str, Any]:
    """How high the sun stands at local noon, in degrees, and how long the shadow of a 1 m stick is."""
    when = day or date.today() + timedelta(days=1)
    declination = 23.45 * sin(2 * pi * (284 + when.timetuple().tm_yday) / 365)
    elevation = 90 - abs(latitude - declination)
    shadow = round(1 / tan(radians(elevation)), 2) if elevation > 0.5 else None
    return {"day": when.isoformat(), "elevation_degrees": round(elevation, 1), "shadow_m": shadow}


if __name__ == "__main__":
    server.run()
