"""`pip-audit` over the versions that are tested together. Exit status 1: one of them has a known vulnerability.

Where the lists of vulnerabilities cannot be reached it says so in one line and fails nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

CONSTRAINTS = Path(__file__).with_name("constraints.txt")
PROBE_S = 15
ALL_S = 300


def audited(requirements: Path, within_s: float) -> list[dict[str, Any]] | None:
    """What is said of each package; None: nothing, because nobody could be asked."""
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off", "--disable-pip"]
    try:
        ended = subprocess.run(
            [*command, "--no-deps", "-r", str(requirements)], capture_output=True, check=False, timeout=within_s
        )
        found: list[dict[str, Any]] = json.loads(ended.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        return None
    return found if any("vulns" in package for package in found) else None


def main() -> int:
    # One package first: without a network each costs as long as all of this may take.
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as probe:
        probe.write(next(line for line in CONSTRAINTS.read_text().splitlines() if "==" in line) + "\n")
        probe.flush()
        found = audited(Path(probe.name), PROBE_S) and audited(CONSTRAINTS, ALL_S)
    if found is None:
        print("pip-audit did not run: the lists of known vulnerabilities cannot be reached from here")
        return 0
    bad = [(p["name"], p["version"], v["id"], v.get("fix_versions")) for p in found for v in p.get("vulns", ())]
    for name, version, what, mended in bad:
        print(f"{name} {version} has {what}, mended in {', '.join(mended or ['no release yet'])}")
    unknown = sum("skip_reason" in package for package in found)
    print(f"pip-audit: {len(found) - unknown} packages, {len(bad)} known vulnerabilities, {unknown} not on its list")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
