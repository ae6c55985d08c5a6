"""A sample MCP server: positions on the globe. A sphere of 6371.0088 km (IUGG mean radius) stands for the Earth."""

from math import asin, atan2, cos, degrees, pi, radians, sin, sqrt, tan
from typing import Annotated, Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import Field

server = MCPServer("geo", version="1.0.0", instructions="Latitudes and longitudes in degrees.", log_level="WARNING")
READ_ONLY = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)

RADIUS_KM = 6371.0088
GEOHASH = "0123456789bcdefghjkmnpqrstuvwxyz"
Latitude = Annotated[float, Field(ge=-90, le=90, description="Degrees, north is positive")]
Longitude = Annotated[float, Field(ge=-180, le=180, description="Degrees, east is positive")]


def _wrapped(longitude: float) -> float:
    return (longitude + 540) % 360 - 180


def _arc(lat1: float, lon1: float, lat2: float, lon2: float) -> float:
    """Central angle in radians (haversine)."""
    a, b = radians(lat1), radians(lat2)
    h = sin((b - a) / 2) ** 2 + cos(a) * cos(b) * sin(radians(lon2 - lon1) / 2) ** 2
    return 2 * asin(min(1.0, sqrt(h)))


@server.tool(title="Distance between two places", annotations=READ_ONLY)
def great_circle_distance(lat1: Latitude, lon1: Longitude, lat2: Latitude, lon2: Longitude) -> dict[str, float]:
    """How far apart two points on Earth are as the crow flies, in kilometres, miles and nautical miles."""
    km = RADIUS_KM * _arc(lat1, lon1, lat2, lon2)
    return {"km": round(km, 3), "miles": round(km / 1.609344, 3), "nautical_miles": round(km / 1.852, 3)}


@server.tool(title="Initial bearing", annotations=READ_ONLY)
def initial_bearing(lat1: Latitude, lon1: Longitude, lat2: Latitude, lon2: Longitude) -> dict[str, Any]:
    """In which compass direction to set out from one point to reach another by the shortest way."""
    a, b, d = radians(lat1), radians(lat2), radians(lon2 - lon1)
    bearing = degrees(atan2(sin(d) * cos(b), cos(a) * sin(b) - sin(a) * cos(b) * cos(d))) % 360
    names = ("N", "NNE", "NE", "ENE", "E", "ESE", "SE", "SSE", "S", "SSW", "SW", "WSW", "W", "WNW", "NW", "NNW")
    return {"degrees": round(bearing, 2), "compass": names[round(bearing / 22.5) % 16]}


@server.tool(title="Destination point", annotations=READ_ONLY)
def destination_point(
    lat: Latitude,
    lon: Longitude,
    bearing_degrees: Annotated[float, Field(ge=0, le=360, description="Clockwise from north")],
    distance_km: Annotated[float, Field(ge=0, le=40_000)],
) -> dict[str, float]:
    """Where you arrive when you travel a distance from a point on a given bearing (dead reckoning)."""
    a, t, d = radians(lat), radians(bearing_degrees), distance_km / RADIUS_KM
    b = asin(sin(a) * cos(d) + cos(a) * sin(d) * cos(t))
    longitude = lon + degrees(atan2(sin(t) * sin(d) * cos(a), cos(d) - sin(a) * sin(b)))
    return {"lat": round(degrees(b), 6), "lon": round(_wrapped(longitude), 6)}


@server.tool(title="Midpoint", annotations=READ_ONLY)
def midpoint(lat1: Latitude, lon1: Longitude, lat2: Latitude, lon2: Longitude) -> dict[str, float]:
    """The point halfway between two places on the great circle: where to meet."""
    a, b, d = radians(lat1), radians(lat2), radians(lon2 - lon1)
    x, y = cos(b) * cos(d), cos(b) * sin(d)
    lat = atan2(sin(a) + sin(b), sqrt((cos(a) + x) ** 2 + y**2))
    return {"lat": round(degrees(lat), 6), "lon": round(_wrapped(lon1 + degrees(atan2(y, cos(a) + x))), 6)}


@server.tool(title="Nautical time zone", annotations=READ_ONLY)
def nautical_timezone(lon: Longitude) -> dict[str, Any]:
    """The nautical time zone of a longitude and its offset from UTC. Civil time zones follow borders and differ."""
    offset = round(lon / 15)
    letters = "YXWVUTSRQPONZABCDEFGHIKLM"
    return {"utc_offset_hours": offset, "letter": letters[offset + 12], "solar_offset_minutes": round(lon * 4, 1)}


@server.tool(title="Encode a geohash", annotations=READ_ONLY)
def geohash_encode(
    lat: Latitude, lon: Longitude, length: Annotated[int, Field(ge=1, le=12, description="Characters")] = 9
) -> dict[str, str]:
    """Turn latitude and longitude into a short geohash string, for storing or grouping places that lie close."""
    low, high = [-180.0, -90.0], [180.0, 90.0]
    point, bits = (lon, lat), 0
    for i in range(5 * length):
        axis = i % 2
        mid = (low[axis] + high[axis]) / 2
        bits = bits << 1 | (point[axis] >= mid)
        (low if point[axis] >= mid else high)[axis] = mid
    return {"geohash": "".join(GEOHASH[bits >> 5 * i & 31] for i in reversed(range(length)))}


@server.tool(title="Decode a geohash", annotations=READ_ONLY)
def geohash_decode(geohash: Annotated[str, Field(min_length=1, max_length=12)]) -> dict[str, float]:
    """The latitude and longitude at the centre of a geohash cell, and how exact they are."""
    low, high = [-180.0, -90.0], [180.0, 90.0]
    for i, character in enumerate(geohash.lower()):
        value = GEOHASH.find(character)
        if value < 0:
            raise ToolError(f"{character!r} cannot occur in a geohash; allowed are {GEOHASH}.")
        for j in range(5):
            axis = (5 * i + j) % 2
            mid = (low[axis] + high[axis]) / 2
            (low if value >> (4 - j) & 1 else high)[axis] = mid
    lon, lat = ((low[k] + high[k]) / 2 for k in (0, 1))
    return {"lat": lat, "lon": lon, "lat_error": (high[1] - low[1]) / 2, "lon_error": (high[0] - low[0]) / 2}


@server.tool(title="Area of a polygon", annotations=READ_ONLY)
def polygon_area(
    points: Annotated[
        list[tuple[Latitude, Longitude]],
        Field(min_length=3, max_length=10_000, description="[latitude, longitude] pairs"),
    ],
) -> dict[str, float]:
    """The area inside a polygon on the Earth's surface, such as a field, a lake or a country, in km² and hectares."""
    excess = turned = 0.0
    for (lat1, lon1), (lat2, lon2) in zip(points, points[1:] + points[:1], strict=True):
        step, a, b = radians(_wrapped(lon2 - lon1)), tan(radians(lat1) / 2), tan(radians(lat2) / 2)
        excess += 2 * atan2(tan(step / 2) * (a + b), 1 + a * b)
        turned += step
    # Once around a pole, what was summed is the other side of the border.
    area = abs(excess) if abs(turned) < pi else 2 * pi - abs(excess)
    km2 = area * RADIUS_KM**2
    return {"km2": round(km2, 4), "hectares": round(km2 * 100, 2)}


if __name__ == "__main__":
    server.run()
