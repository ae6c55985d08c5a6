"""A sample MCP server: conversion between units of measurement. Stateless, so it may run as replicas."""

from fractions import Fraction
from typing import Annotated, Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import Field

server = MCPServer("units", version="1.0.0", instructions="Converts between units.", log_level="WARNING")
READ_ONLY = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)

# Quantity → unit → its size in the base unit, exact. Definitions: SI brochure; international yard and pound (1959).
UNITS: dict[str, dict[str, str]] = {
    "length": {
        "metre": "1", "kilometre": "1000", "centimetre": "1/100", "millimetre": "1/1000", "inch": "0.0254",
        "foot": "0.3048", "yard": "0.9144", "mile": "1609.344", "nautical mile": "1852",
    },
    "mass": {
        "kilogram": "1", "gram": "1/1000", "milligram": "1/1000000", "tonne": "1000", "pound": "0.45359237",
        "ounce": "0.028349523125", "stone": "6.35029318",
    },
    "volume": {
        "litre": "1", "millilitre": "1/1000", "cubic metre": "1000", "us gallon": "3.785411784",
        "us cup": "0.2365882365", "us fluid ounce": "0.0295735295625", "us tablespoon": "0.01478676478125",
        "imperial pint": "0.56826125", "imperial gallon": "4.54609",
    },
    "area": {
        "square metre": "1", "square kilometre": "1000000", "hectare": "10000", "acre": "4046.8564224",
        "square foot": "0.09290304", "square mile": "2589988.110336",
    },
    "speed": {
        "metre per second": "1", "kilometre per hour": "5/18", "mile per hour": "0.44704", "knot": "463/900",
    },
    "time": {"second": "1", "minute": "60", "hour": "3600", "day": "86400", "week": "604800"},
    "energy": {
        "joule": "1", "kilojoule": "1000", "kilowatt hour": "3600000", "calorie": "4.184",
        "kilocalorie": "4184",
    },
    "pressure": {"pascal": "1", "hectopascal": "100", "bar": "100000", "atmosphere": "101325", "psi": "6894.757293168"},
    "data": {
        "bit": "1/8", "byte": "1", "kilobyte": "1000", "megabyte": "1000000", "gigabyte": "1000000000",
        "kibibyte": "1024", "mebibyte": "1048576", "gibibyte": "1073741824",
    },
}  # fmt: skip
ALIASES = {
    "m": "metre", "meter": "metre", "km": "kilometre", "kilometer": "kilometre", "cm": "centimetre",
    "centimeter": "centimetre", "mm": "millimetre", "in": "inch", "inches": "inch", "ft": "foot", "feet": "foot",
    "yd": "yard", "mi": "mile", "nmi": "nautical mile", "kg": "kilogram", "g": "gram", "mg": "milligram", "t": "tonne",
    "lb": "pound", "lbs": "pound", "oz": "ounce", "l": "litre", "liter": "litre", "ml": "millilitre", "cup": "us cup",
    "gallon": "us gallon", "tablespoon": "us tablespoon", "ha": "hectare", "m/s": "metre per second",
    "km/h": "kilometre per hour", "kmh": "kilometre per hour", "mph": "mile per hour", "s": "second", "min": "minute",
    "h": "hour", "j": "joule", "kwh": "kilowatt hour", "kcal": "kilocalorie", "pa": "pascal", "hpa": "hectopascal",
    "atm": "atmosphere", "b": "byte", "kb": "kilobyte", "mb": "megabyte", "gb": "gigabyte", "kib": "kibibyte",
    "mib": "mebibyte", "gib": "gibibyte",
}  # fmt: skip
BASE = {unit: (quantity, Fraction(size)) for quantity, units in UNITS.items() for unit, size in units.items()}
TEMPERATURES = ("celsius", "fahrenheit", "kelvin")
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def _unit(name: str) -> tuple[str, str, Fraction]:
    key = " ".join(name.lower().split())
    for candidate in (key, ALIASES.get(key, ""), key.removesuffix("s"), ALIASES.get(key.removesuffix("s"), "")):
        if candidate in BASE:
            return candidate, *BASE[candidate]
    raise ToolError(f"Unit {name!r} is not known. 'list_units' names all of them; temperatures: 'convert_temperature'.")


@server.tool(title="Convert a unit", annotations=READ_ONLY)
def convert_unit(
    value: Annotated[float, Field(allow_inf_nan=False, description="How many of `from_unit`")],
    from_unit: Annotated[str, Field(description="Such as 'mile', 'kg', 'us cup' or 'km/h'")],
    to_unit: Annotated[str, Field(description="A unit of the same quantity")],
) -> dict[str, Any]:
    """Convert a measurement from one unit to another: length, mass, volume, area, speed, time, energy, pressure, data.

    Miles to kilometres, pounds to kilograms, cups to millilitres, megabytes to mebibytes.
    """
    source, quantity, size = _unit(from_unit)
    target, wanted, other = _unit(to_unit)
    if quantity != wanted:
        raise ToolError(f"{source!r} measures {quantity} and {target!r} measures {wanted}: no conversion exists.")
    result = float(Fraction(value) * size / other)
    return {"value": float(f"{result:.12g}"), "unit": target, "quantity": quantity}


@server.tool(title="Convert a temperature", annotations=READ_ONLY)
def convert_temperature(
    value: Annotated[float, Field(allow_inf_nan=False, description="The temperature")],
    from_scale: Annotated[str, Field(description="celsius, fahrenheit or kelvin")],
    to_scale: Annotated[str, Field(description="celsius, fahrenheit or kelvin")],
) -> dict[str, Any]:
    """Convert a temperature between Celsius, Fahrenheit and Kelvin, such as an oven setting from °F to °C."""
    source, target = (
        next((t for t in TEMPERATURES if t[0] == s.strip().lower()[:1]), None) for s in (from_scale, to_scale)
    )
    if source is None or target is None:
        raise ToolError(f"A scale is one of {', '.join(TEMPERATURES)}.")
    kelvin = {"celsius": value + 273.15, "fahrenheit": (value + 459.67) * 5 / 9, "kelvin": value}[source]
    if kelvin < 0:
        raise ToolError(f"{value} {source} is below absolute zero.")
    result = {"celsius": kelvin - 273.15, "fahrenheit": kelvin * 9 / 5 - 459.67, "kelvin": kelvin}[target]
    return {"value": round(result, 6), "scale": target}


@server.tool(title="List the units", annotations=READ_ONLY)
def list_units(
    quantity: Annotated[str | None, Field(description="Such as 'length'; all quantities if left out")] = None,
) -> dict[str, list[str]]:
    """Which units of measurement can be converted, by quantity."""
    if quantity is None:
        return {name: list(units) for name, units in UNITS.items()}
    if quantity.lower() not in UNITS:
        raise ToolError(f"Quantity {quantity!r} is not known. Known: {', '.join(UNITS)}.")
    return {quantity.lower(): list(UNITS[quantity.lower()])}


@server.tool(title="Convert a number's base", annotations=READ_ONLY)
def convert_base(
    number: Annotated[str, Field(min_length=1, max_length=200, description="An integer, such as 'ff' or '-1010'")],
    from_base: Annotated[int, Field(ge=2, le=36)],
    to_base: Annotated[int, Field(ge=2, le=36)],
) -> dict[str, str]:
    """Rewrite an integer in another number base: binary, octal, decimal, hexadecimal, any from 2 to 36."""
    try:
        value = int(number.replace(" ", ""), from_base)
    except ValueError:
        raise ToolError(f"{number!r} is not an integer in base {from_base}.") from None
    rest, digits = abs(value), ""
    while rest:
        rest, digit = divmod(rest, to_base)
        digits = DIGITS[digit] + digits
    return {"number": ("-" if value < 0 else "") + (digits or "0")}


if __name__ == "__main__":
    server.run()
