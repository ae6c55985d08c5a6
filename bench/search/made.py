"""A hundred thousand tools, made by rule: what is done (verb), to what (thing), in whose product, for which case.

Nothing is drawn from a dataset. Servers are products of invented makers, each of a field with things of its own; a tool
is a verb on a thing, told in one to four sentences, with a schema. Equal numbers give equal tools.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from proto import jsons
from router.ports import ToolEntry, ToolKey

TOOLS_A_SERVER = 40

FIELDS: dict[str, tuple[str, ...]] = {
    "accounting": ("invoice", "receipt", "ledger entry", "tax return", "payment reminder", "cost centre"),
    "mail": ("message", "mailbox folder", "signature", "attachment", "mailing list", "spam rule"),
    "calendar": ("appointment", "meeting invitation", "reminder", "working hours", "shared calendar", "holiday"),
    "storage": ("file", "folder", "download link", "backup", "object version", "retention rule"),
    "source code": ("pull request", "branch", "commit", "release", "code review", "build pipeline"),
    "project work": ("task", "board column", "sprint", "time sheet", "milestone", "dependency"),
    "databases": ("table", "index", "SQL query", "migration", "replica", "stored procedure"),
    "monitoring": ("alert", "dashboard", "log line", "metric", "incident", "on-call shift"),
    "clusters": ("pod", "deployment", "ingress rule", "volume claim", "node pool", "secret"),
    "customers": ("contact", "sales deal", "phone call note", "support ticket", "contract", "customer segment"),
    "shops": ("product", "order", "discount code", "stock level", "refund", "shopping basket"),
    "parcels": ("parcel", "shipping label", "pickup", "customs form", "delivery slot", "return shipment"),
    "travel": ("flight", "hotel room", "train ticket", "rental car", "boarding pass", "travel insurance"),
    "maps": ("route", "address", "point of interest", "travel time", "map tile", "geofence"),
    "weather": ("forecast", "storm warning", "rain radar image", "pollen count", "tide table", "air quality report"),
    "health": ("patient record", "prescription", "lab result", "vaccination", "doctor's appointment", "diet plan"),
    "homes": ("lamp", "thermostat", "door lock", "window blind", "smoke detector", "vacuum robot"),
    "music": ("playlist", "song", "album", "concert", "radio station", "podcast episode"),
    "pictures": ("photo", "image filter", "thumbnail", "photo album", "watermark", "drawing"),
    "documents": ("PDF file", "spreadsheet", "slide deck", "signature request", "form field", "table of contents"),
    "languages": ("translation", "glossary", "transcript", "subtitle", "grammar check", "summary"),
    "staff": ("employee profile", "leave request", "expense report", "pay slip", "job opening", "onboarding checklist"),
    "banks": ("account balance", "bank transfer", "standing order", "credit card", "exchange rate", "share price"),
    "science": ("paper", "citation", "data set", "experiment", "telescope observation", "protein structure"),
    "law": ("statute", "court decision", "contract clause", "patent", "trademark", "legal deadline"),
    "kitchens": ("recipe", "shopping list", "meal plan", "restaurant table", "wine pairing", "food delivery"),
    "sports": ("workout", "training plan", "race result", "league table", "player statistic", "sleep report"),
    "networks": ("firewall rule", "domain name", "DNS record", "VPN tunnel", "certificate", "IP address range"),
    "factories": ("machine", "maintenance order", "spare part", "sensor reading", "production batch", "work shift"),
    "schools": ("course", "lesson", "exam grade", "timetable", "homework", "enrolment"),
}
VERBS = {
    "create": "Creates a new {thing}",
    "get": "Returns one {thing} with all its details",
    "list": "Lists every {thing}, newest first",
    "search": "Finds a {thing} by words, date or owner",
    "update": "Changes what is stored of a {thing}",
    "delete": "Removes a {thing} for good",
    "share": "Gives somebody else access to a {thing}",
    "export": "Writes a {thing} to a file",
    "approve": "Approves a {thing} that waits for a decision",
    "archive": "Puts a {thing} away where it is no longer shown",
    "compare": "Shows how one {thing} differs from another",
    "schedule": "Plans a {thing} for later, once or repeatedly",
}
CASES = (
    "for teams that work in several countries",
    "of the current user",
    "in a given period",
    "with an audit trail",
    "in bulk, up to five hundred at once",
    "and tells everybody who follows it",
    "without asking again",
    "as JSON or CSV",
    "of an archived workspace",
    "in the sandbox only",
    "with their history",
    "that nobody has touched for a month",
)
NOTES = (
    "Needs the right to write.",
    "Results are paged; pass the cursor of the last answer to go on.",
    "Dates are ISO 8601 in the time zone of the account.",
    "Fails if it does not exist or if somebody else holds it at the moment.",
    "Limited to sixty calls a minute.",
    "Use this rather than the older endpoint, which answers more slowly and leaves out what was deleted.",
    "Numbers are rounded to two places.",
    "The change can be taken back within an hour.",
)
PARAMETERS = {
    "id": "Which one",
    "query": "Words to look for",
    "from": "Begin of the period",
    "to": "End of the period",
    "owner": "Whose",
    "limit": "How many at most",
    "format": "How the answer is written",
    "notify": "Whether to tell those concerned",
    "comment": "A note that is kept with it",
}
_SYLLABLES = (
    "ba",
    "cor",
    "del",
    "fen",
    "gal",
    "hum",
    "jor",
    "kel",
    "lum",
    "mar",
    "nov",
    "pel",
    "qui",
    "ras",
    "sol",
    "tan",
)
_KINDS = ("Hub", "Desk", "Flow", "Base", "Point", "Works", "Cloud", "Suite")
_STYLES = 3


def maker(rng: random.Random) -> str:
    """An invented name such as Velnov."""
    return "".join(rng.choice(_SYLLABLES) for _ in range(rng.randint(2, 3))).capitalize()


def phrases() -> list[tuple[str, str, str]]:
    """Every (verb, thing, field) there is: 2,160 of them."""
    return [(verb, thing, field) for field, things in FIELDS.items() for thing in things for verb in VERBS]


def tools(count: int, seed: int = 1) -> Iterator[ToolEntry]:
    """`count` tools of as many servers as forty tools each make."""
    rng = random.Random(seed)
    every = phrases()
    for number in range(-(-count // TOOLS_A_SERVER)):
        field = rng.choice(list(FIELDS))
        name, kind = maker(rng), rng.choice(_KINDS)
        server = f"{name.lower()}-{kind.lower()}-{number}"
        about = f"{name} {kind}: {', '.join(FIELDS[field][:4])} and more, for {field}."
        style = rng.randrange(_STYLES)
        offered = [p for p in every if p[2] == field]
        for verb, thing, _ in rng.sample(offered, min(TOOLS_A_SERVER, len(offered), count)):
            count -= 1
            yield _tool(rng, server, about, name, verb, thing, style)


def queries(count: int, seed: int = 2) -> list[str]:
    """One step each, five to nine words, none asked twice."""
    rng = random.Random(seed)
    forms = ("{verb} the {thing} {case}", "how do I {verb} a {thing} in {maker}", "{verb} a {thing} for {field}")
    found: dict[str, None] = {}
    while len(found) < count:
        verb, thing, field = rng.choice(phrases())
        case = " ".join(rng.choice(CASES).split()[:4])
        form = rng.choice(forms)
        found[form.format(verb=verb, thing=thing, field=field, case=case, maker=maker(rng))] = None
    return list(found)


def tasks(count: int, seed: int = 3) -> list[str]:
    """Of three steps each, some twenty-five words."""
    steps = iter(queries(3 * count, seed))
    return [f"{next(steps).capitalize()}, then {next(steps)}. Finally {next(steps)}." for _ in range(count)]


def _tool(rng: random.Random, server: str, about: str, maker_name: str, verb: str, thing: str, style: int) -> ToolEntry:
    words = [verb, *thing.replace("'", "").lower().split()]
    name = ("_".join(words), words[0] + "".join(w.capitalize() for w in words[1:]), "-".join(words))[style]
    sentences = [f"{VERBS[verb].format(thing=thing)} {rng.choice(CASES)} in {maker_name}."]
    sentences += rng.sample(NOTES, rng.choice((0, 1, 1, 2, 3)))
    chosen = rng.sample(list(PARAMETERS), rng.randint(1, 5))
    properties: dict[str, Any] = {p: {"type": "string", "description": f"{PARAMETERS[p]} ({thing})"} for p in chosen}
    definition: dict[str, Any] = {
        "name": name,
        "description": " ".join(sentences),
        "inputSchema": {"type": "object", "properties": properties, "required": chosen[:1]},
    }
    return ToolEntry(ToolKey("bench-1", server, name), definition, jsons.digest(definition), server_description=about)
