"""Modules stay small, packages stay empty, and every target says what it does."""

from __future__ import annotations

import re
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[2]
PACKAGES = ("proto", "federation", "router", "node")
LINES_MAX = 450
MEDIAN_MAX = 150


def modules() -> dict[str, int]:
    """Lines of each of our own modules; generated stubs and the packages' empty files left out."""
    return {
        str(file.relative_to(ROOT)): len(file.read_text().splitlines())
        for package in PACKAGES
        for file in (ROOT / package).rglob("*.py")
        if "_pb2" not in file.name and file.name != "__init__.py"
    }


def test_no_module_is_too_long_to_be_held_in_mind() -> None:
    assert {name: lines for name, lines in modules().items() if lines > LINES_MAX} == {}


def test_half_of_the_modules_are_short() -> None:
    sizes = modules()
    assert len(sizes) > 20
    assert median(sizes.values()) <= MEDIAN_MAX


def test_packages_hold_nothing_in_their_init() -> None:
    files = [f for package in PACKAGES for f in (ROOT / package).rglob("__init__.py")]
    assert {f.parent.name for f in files} >= set(PACKAGES)
    assert [f for f in files if f.read_text()] == []


def test_every_module_says_what_it_is_for() -> None:
    silent = [name for name in modules() if not (ROOT / name).read_text().startswith('"""')]
    assert silent == []


def test_every_make_target_has_a_comment_and_is_phony() -> None:
    text = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^([a-z-]+):(.*)$", text, re.MULTILINE)
    phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert phony is not None
    assert {name for name, _ in targets} == set(phony[1].split())
    assert [name for name, rest in targets if not re.search(r"# \w", rest)] == []


def test_every_script_says_what_it_does() -> None:
    scripts = [*(ROOT / "deploy").glob("*.sh"), *(f for f in (ROOT / ".ci").glob("*") if f.is_file())]
    assert scripts
    for script in scripts:
        first, second, *_ = script.read_text().splitlines()
        assert first.startswith("#!"), script.name
        assert second.startswith("# "), script.name
