"""Published faults about browsers and authorization servers, against the pages of a node."""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from node.credentials.ports import Asked, ConsentNeeded
from tests.node.consent.authority import Authority
from tests.node.consent.conftest import ALICE, Browser, Site
from tests.node.consent.conftest import authority as authority
from tests.node.consent.conftest import browser as browser
from tests.node.consent.conftest import other_browser as other_browser
from tests.node.consent.conftest import site as site
from tests.node.consent.test_pages import asked_page

ROOT = Path(__file__).parents[2]
SHELLS = ("os.system", "os.popen", "os.startfile", "asyncio.create_subprocess_shell", "subprocess.getoutput")
PACKAGES = ("node", "federation", "router", "proto")


def sources() -> Iterator[tuple[str, ast.AST]]:
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            yield str(file.relative_to(ROOT)), ast.parse(file.read_text())


def children() -> set[str]:
    """The command lines of what runs below this process."""
    found = set()
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            found.add(" ".join(process.cmdline()))
    return found


@pytest.mark.parametrize("endpoint", ["file:///bin/sh", "a:$(touch${IFS}x)", "http://as.example/?x=$(calc)", "cmd:/c"])
async def test_cve_2025_6514_an_authorization_servers_address_reaches_no_shell(
    site: Site, browser: Browser, authority: Authority, endpoint: str
) -> None:
    before = children()
    authority.more = {"authorization_endpoint": endpoint}
    page = await asked_page(site, browser)
    assert (page.status, page.refresh) == (503, "")
    assert children() <= before


def test_cve_2025_6514_nothing_here_runs_a_shell_or_opens_a_browser() -> None:
    found = []
    for name, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg == "shell":
                found.append((name, "shell="))
            if isinstance(node, ast.Attribute) and f"{getattr(node.value, 'id', '')}.{node.attr}" in SHELLS:
                found.append((name, node.attr))
            if isinstance(node, ast.Import | ast.ImportFrom):
                modules = [a.name for a in node.names] + [getattr(node, "module", "") or ""]
                found += [(name, m) for m in modules if m.split(".")[0] in ("webbrowser", "pty")]
    assert found == []


async def test_ghsa_rww4_4w9c_7733_only_the_browser_that_agreed_brings_back_an_answer(
    site: Site, browser: Browser, other_browser: Browser, authority: Authority
) -> None:
    """An address at the authorization server, lured out of one flow, opened by somebody who would be waved through."""
    page = await asked_page(site, browser)
    going = await browser.submit(page, page.form("/oauth/connect/files"), follow=False)
    captured = going.refresh
    await other_browser.sign_in(key="alice-key")
    victim = await other_browser.get(captured, follow=False)
    landed = await other_browser.get(victim.headers["Location"])
    assert landed.status == 400
    assert "another browser session" in landed.says
    assert len(authority.codes) == 1, "its code was shown to nobody"
    with pytest.raises(ConsentNeeded):
        await site.source.obtain(ALICE, Asked())
