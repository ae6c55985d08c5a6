"""The sample servers, run as a node runs them: each comes up over stdio, computes, and refuses what is wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from node.upstreams.spec import UpstreamSpec

SAMPLES = Path(__file__).parents[3] / "deploy" / "examples" / "servers"

RIGHT = {
    "calendar_tools": [
        ("easter_date", {"year": 2026}, {"easter_sunday": "2026-04-05", "good_friday": "2026-04-03"}),
        ("easter_date", {"year": 2038}, {"easter_sunday": "2038-04-25"}),
        ("week_number", {"day": "2026-01-01"}, {"iso_week": "2026-W01", "weekday": "Thursday"}),
        (
            "working_days_between",
            {"start": "2026-12-21", "end": "2026-12-31", "country": "de"},
            {"working_days": 8, "calendar_days": 11},
        ),
        ("add_working_days", {"start": "2026-04-02", "days": 1, "country": "gb"}, {"date": "2026-04-07"}),
        ("public_holidays", {"year": 2026, "country": "us"}, {"2026-11-26": "Thanksgiving"}),
        ("age_between", {"start": "2024-02-29", "end": "2026-02-28"}, {"years": 1, "months": 11, "days": 30}),
    ],
    "finance": [
        ("loan_payment", {"principal": 100_000, "annual_rate": 6, "years": 30}, {"monthly_payment": 599.55}),
        ("compound_interest", {"start": 1000, "annual_rate": 5, "years": 10}, {"end": 1628.89}),
        ("net_present_value", {"annual_rate": 10, "cash_flows": [-100, 60, 60]}, {"npv": 4.13, "worthwhile": True}),
        ("internal_rate_of_return", {"cash_flows": [-100, 60, 60]}, {"irr_percent": 13.0662}),
        ("savings_goal", {"goal": 1200, "annual_rate": 0, "years": 1}, {"monthly_saving": 100.0}),
        ("amortization_schedule", {"principal": 1200, "annual_rate": 0, "years": 1}, {"monthly_payment": 100.0}),
    ],
    "geo": [
        ("great_circle_distance", {"lat1": 52.52, "lon1": 13.405, "lat2": 48.8566, "lon2": 2.3522}, {"km": 877.465}),
        ("initial_bearing", {"lat1": 0, "lon1": 0, "lat2": 0, "lon2": 90}, {"degrees": 90.0, "compass": "E"}),
        ("midpoint", {"lat1": 0, "lon1": 170, "lat2": 0, "lon2": -170}, {"lat": 0.0, "lon": -180.0}),
        ("geohash_encode", {"lat": 57.64911, "lon": 10.40744, "length": 11}, {"geohash": "u4pruydqqvj"}),
        ("nautical_timezone", {"lon": -74}, {"utc_offset_hours": -5, "letter": "R"}),
        ("polygon_area", {"points": [[0, 0], [0, 90], [0, 180], [0, -90]]}, {"km2": 255032940.4864}),
        (
            "destination_point",
            {"lat": 0, "lon": 179, "bearing_degrees": 90, "distance_km": 222.39},
            {"lat": 0.0, "lon": -179.000001},
        ),
        ("polygon_area", {"points": [[0, 0], [0, 90], [90, 0]]}, {"km2": 63758235.1216}),
    ],
    "ledger": [
        ("open_account", {"name": "bank", "kind": "asset"}, {"opened": "bank"}),
        ("open_account", {"name": "sales", "kind": "income"}, {"kind": "income"}),
        ("post_entry", {"debit": "bank", "credit": "sales", "amount": "19.90"}, {"number": 1, "amount": "19.90"}),
        ("post_entry", {"debit": "bank", "credit": "sales", "amount": "0.10"}, {"number": 2}),
        ("account_balance", {"name": "bank"}, {"balance": "20.00"}),
        ("reverse_entry", {"number": 2}, {"reverses": 2, "debit": "sales"}),
        ("trial_balance", {}, {"profit": "19.90", "entries": 3}),
    ],
    "text": [
        ("count_words", {"text": "It's one. It's two!"}, {"words": 4, "sentences": 2}),
        ("slugify", {"text": "Größe & Ärger: 3 Wünsche"}, {"slug": "grosse-arger-3-wunsche"}),
        ("extract_emails", {"text": "a@b.org, <C.D@e-f.co.uk>. x@y"}, {"emails": ["a@b.org", "c.d@e-f.co.uk"]}),
        ("extract_links", {"text": "see https://a.b/c?d=1, ok"}, {"links": ["https://a.b/c?d=1"]}),
        ("diff_texts", {"before": "a\nb", "after": "a\nc"}, {"identical": False, "similar_lines_percent": 50.0}),
        ("change_case", {"text": "parseHTTPRequest", "style": "snake"}, {"text": "parse_http_request"}),
        ("frequent_words", {"text": "tree tree bush", "count": 1}, {"tree": 2}),
    ],
    "units": [
        ("convert_unit", {"value": 26.2, "from_unit": "mile", "to_unit": "kilometre"}, {"value": 42.1648128}),
        ("convert_unit", {"value": 3, "from_unit": "Feet", "to_unit": "cm"}, {"value": 91.44, "unit": "centimetre"}),
        ("convert_temperature", {"value": 350, "from_scale": "F", "to_scale": "celsius"}, {"value": 176.666667}),
        ("convert_base", {"number": "ff", "from_base": 16, "to_base": 2}, {"number": "11111111"}),
        ("list_units", {"quantity": "time"}, {"time": ["second", "minute", "hour", "day", "week"]}),
    ],
    "weather_station": [
        ("rain_chance", {"city": "singapore", "day": "2026-11-03"}, {"chance_percent": 63}),
        ("rain_chance", {"city": "Singapore"}, {"city": "Singapore"}),
        ("dew_point", {"temperature_c": 25, "humidity_percent": 60}, {"dew_point_c": 16.7}),
        ("wind_chill", {"temperature_c": -10, "wind_kmh": 30}, {"feels_like_c": -19.5}),
        ("humidex", {"temperature_c": 30, "humidity_percent": 70}, {"humidex": 41.2}),
        ("beaufort", {"wind_ms": 18}, {"force": 8, "name": "gale"}),
        ("day_length", {"latitude": 80, "day": "2026-06-21"}, {"hours": 24.0, "sun": "no night"}),
    ],
}  # fmt: skip

WRONG = {
    "calendar_tools": ("working_days_between", {"start": "2026-02-02", "end": "2026-02-01"}, "lies before the start"),
    "finance": ("internal_rate_of_return", {"cash_flows": [1, 2]}, "at least one payment"),
    "geo": ("geohash_decode", {"geohash": "abc"}, "cannot occur in a geohash"),
    "ledger": ("post_entry", {"debit": "x", "credit": "y", "amount": "1"}, "There is no account 'x'"),
    "text": ("slugify", {"text": "…"}, "no letter"),
    "units": ("convert_unit", {"value": 1, "from_unit": "mile", "to_unit": "kg"}, "no conversion exists"),
    "weather_station": ("rain_chance", {"city": "Atlantis"}, "Known cities: Berlin"),
}


def test_every_sample_is_tried_with_right_and_wrong_input():
    names = {path.stem for path in SAMPLES.glob("*.py")}
    assert names == RIGHT.keys() == WRONG.keys()


@pytest.mark.parametrize("name", sorted(RIGHT))
async def test_a_sample_server_computes_and_refuses(watch, recorder, name):
    w = await watch(UpstreamSpec("sample", command=(sys.executable, str(SAMPLES / f"{name}.py"))))
    offer = await w.until_up()
    assert len(offer.tools) >= 4
    for tool in offer.tools:
        assert len(tool["description"]) > 25
        assert "readOnlyHint" in tool["annotations"]
    for tool, arguments, expected in RIGHT[name]:
        result = (await w.tool(tool, arguments))["result"]
        assert not result.get("isError"), result
        assert {k: result["structuredContent"].get(k) for k in expected} == expected
    tool, arguments, says = WRONG[name]
    result = (await w.tool(tool, arguments))["result"]
    assert result["isError"] is True
    assert says in result["content"][0]["text"]
    assert (await w.tool(tool, {"nonsense": [1]}))["result"]["isError"] is True


async def test_the_simulation_says_how_far_it_is(watch, recorder):
    w = await watch(UpstreamSpec("sample", command=(sys.executable, str(SAMPLES / "finance.py"))))
    await w.until_up()
    heard = recorder()
    arguments = {"start": 1000, "years": 5, "runs": 200}
    first = await w.tool("simulate_portfolio", arguments, heard, params={"_meta": {"progressToken": "sim"}})
    assert [n["params"]["progress"] for n in heard.heard] == list(range(1, 11))
    assert {n["params"]["progressToken"] for n in heard.heard} == {"sim"}
    second = await w.tool("simulate_portfolio", arguments)
    assert first["result"]["structuredContent"] == second["result"]["structuredContent"]
