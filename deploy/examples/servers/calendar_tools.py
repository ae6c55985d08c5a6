"""A sample MCP server: dates, working days and public holidays, computed in the Gregorian calendar."""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Annotated, Any, Literal

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import Field

server = MCPServer("calendar", version="1.0.0", instructions="Dates are ISO, 2026-05-17.", log_level="WARNING")
READ_ONLY = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)

SPAN_DAYS_MAX = 40_000
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
Year = Annotated[int, Field(ge=1900, le=2200)]
Day = Annotated[date, Field(description="ISO date, such as 2026-05-17")]
Country = Annotated[
    Literal["none", "de", "fr", "gb", "us"], Field(description="Whose nationwide holidays count; 'none': weekends only")
]


def _easter(year: int) -> date:
    """Western Easter Sunday (Meeus, Jones, Butcher)."""
    a, b, c = year % 19, year // 100, year % 100
    d = (19 * a + b - b // 4 - (b - (b + 8) // 25 + 1) // 3 + 15) % 30
    e = (32 + 2 * (b % 4) + 2 * (c // 4) - d - c % 4) % 7
    month, day = divmod(d + e - 7 * ((a + 11 * d + 22 * e) // 451) + 114, 31)
    return date(year, month, day + 1)


def _nth(year: int, month: int, weekday: int, n: int) -> date:
    """The n-th weekday of a month; from its end for a negative n."""
    if n > 0:
        first = date(year, month, 1)
        return first + timedelta(days=(weekday - first.weekday()) % 7 + 7 * (n - 1))
    last = date(year + month // 12, month % 12 + 1, 1) - timedelta(days=1)
    return last - timedelta(days=(last.weekday() - weekday) % 7 + 7 * (-n - 1))


def _holidays(year: int, country: str) -> dict[date, str]:
    """Nationwide holidays under the rules of today, on the day itself (substitute days are not moved)."""
    easter = _easter(year)

    def after(days: int) -> date:
        return easter + timedelta(days=days)

    if country == "de":
        return {
            date(year, 1, 1): "New Year's Day", after(-2): "Good Friday", after(1): "Easter Monday",
            date(year, 5, 1): "Labour Day", after(39): "Ascension Day", after(50): "Whit Monday",
            date(year, 10, 3): "German Unity Day", date(year, 12, 25): "Christmas Day",
            date(year, 12, 26): "Boxing Day",
        }  # fmt: skip
    if country == "fr":
        return {
            date(year, 1, 1): "New Year's Day", after(1): "Easter Monday", date(year, 5, 1): "Labour Day",
            date(year, 5, 8): "Victory Day", after(39): "Ascension Day", after(50): "Whit Monday",
            date(year, 7, 14): "Bastille Day", date(year, 8, 15): "Assumption Day",
            date(year, 11, 1): "All Saints' Day", date(year, 11, 11): "Armistice Day",
            date(year, 12, 25): "Christmas Day",
        }  # fmt: skip
    if country == "gb":
        return {
            date(year, 1, 1): "New Year's Day", after(-2): "Good Friday", after(1): "Easter Monday",
            _nth(year, 5, 0, 1): "Early May bank holiday", _nth(year, 5, 0, -1): "Spring bank holiday",
            _nth(year, 8, 0, -1): "Summer bank holiday", date(year, 12, 25): "Christmas Day",
            date(year, 12, 26): "Boxing Day",
        }  # fmt: skip
    if country == "us":
        return {
            date(year, 1, 1): "New Year's Day", _nth(year, 1, 0, 3): "Martin Luther King Jr. Day",
            _nth(year, 2, 0, 3): "Washington's Birthday", _nth(year, 5, 0, -1): "Memorial Day",
            date(year, 6, 19): "Juneteenth", date(year, 7, 4): "Independence Day", _nth(year, 9, 0, 1): "Labor Day",
            _nth(year, 10, 0, 2): "Columbus Day", date(year, 11, 11): "Veterans Day",
            _nth(year, 11, 3, 4): "Thanksgiving", date(year, 12, 25): "Christmas Day",
        }  # fmt: skip
    return {}


def _works(day: date, country: str) -> bool:
    return day.weekday() < 5 and day not in _holidays(day.year, country)


def _days(start: date, end: date) -> Iterator[date]:
    if abs((end - start).days) > SPAN_DAYS_MAX:
        raise ToolError(f"The dates are more than {SPAN_DAYS_MAX} days apart.")
    return (start + timedelta(days=i) for i in range((end - start).days + 1))


@server.tool(title="Working days between two dates", annotations=READ_ONLY)
def working_days_between(start: Day, end: Day, country: Country = "none") -> dict[str, int]:
    """Count the business days from one date to another, both included, without weekends and public holidays."""
    if end < start:
        raise ToolError(f"The end {end} lies before the start {start}.")
    days = list(_days(start, end))
    holidays = {y: _holidays(y, country) for y in {d.year for d in days}}
    working = sum(d.weekday() < 5 and d not in holidays[d.year] for d in days)
    return {"working_days": working, "calendar_days": len(days)}


@server.tool(title="Add working days", annotations=READ_ONLY)
def add_working_days(
    start: Day,
    days: Annotated[int, Field(ge=-5000, le=5000, description="Negative: backwards")],
    country: Country = "none",
) -> dict[str, str]:
    """The date a number of business days after (or before) a date: a delivery date or a deadline."""
    step, left, day = (1 if days > 0 else -1), abs(days), start
    while left:
        day += timedelta(days=step)
        left -= _works(day, country)
    return {"date": day.isoformat(), "weekday": WEEKDAYS[day.weekday()]}


@server.tool(title="Public holidays", annotations=READ_ONLY)
def public_holidays(
    year: Year, country: Annotated[Literal["de", "fr", "gb", "us"], Field(description="Country code")]
) -> dict[str, str]:
    """The nationwide public holidays of Germany, France, England and Wales, or the USA in a year."""
    return {d.isoformat(): name for d, name in sorted(_holidays(year, country).items())}


@server.tool(title="Date of Easter", annotations=READ_ONLY)
def easter_date(year: Year) -> dict[str, str]:
    """On which date Easter Sunday falls in a year, with the feasts that depend on it."""
    easter = _easter(year)
    feasts = {"ash_wednesday": -46, "good_friday": -2, "easter_sunday": 0, "ascension": 39, "pentecost": 49}
    return {name: (easter + timedelta(days=days)).isoformat() for name, days in feasts.items()}


@server.tool(title="Week number and weekday", annotations=READ_ONLY)
def week_number(day: Day) -> dict[str, Any]:
    """The ISO 8601 calendar week, weekday and day of the year of a date."""
    iso = day.isocalendar()
    return {
        "weekday": WEEKDAYS[day.weekday()],
        "iso_week": f"{iso.year}-W{iso.week:02d}",
        "day_of_year": day.timetuple().tm_yday,
    }


@server.tool(title="Time between two dates", annotations=READ_ONLY)
def age_between(start: Day, end: Day) -> dict[str, int]:
    """Years, months and days from one date to another, such as a person's age or time until an anniversary."""
    if end < start:
        raise ToolError(f"The end {end} lies before the start {start}.")
    months = (end.year - start.year) * 12 + end.month - start.month - (end.day < start.day)
    year, month = divmod(start.year * 12 + start.month - 1 + months, 12)
    length = ((date(year + (month + 1) // 12, (month + 1) % 12 + 1, 1)) - date(year, month + 1, 1)).days
    anchor = date(year, month + 1, min(start.day, length))
    return {
        "years": months // 12,
        "months": months % 12,
        "days": (end - anchor).days,
        "total_days": (end - start).days,
    }


if __name__ == "__main__":
    server.run()
