from __future__ import annotations

import pytest

from node.doors.names import Names
from node.doors.paths import PATH_CHARACTERS_MAX, is_canonical

NAMES = Names.of(["mcp.example.org", "*.Corp.Example.", "2001:db8::5"], ["https://chat.example.org"])


@pytest.mark.parametrize(
    ("host", "local", "named"),
    [
        ("localhost", "127.0.0.1", True),
        ("LocalHost.:7400", "127.0.0.1", True),
        ("127.0.0.1:7400", "127.0.0.1", True),
        ("127.9.9.9", "127.0.0.1", True),
        ("[::1]:7400", "::1", True),
        ("[::ffff:127.0.0.1]", "127.0.0.1", True),
        ("evil.example.org", "127.0.0.1", False),
        ("localhost.evil.example.org", "127.0.0.1", False),
        ("evil-localhost", "127.0.0.1", False),
        ("127.0.0.1.nip.io", "127.0.0.1", False),
        ("2130706433", "127.0.0.1", False),
        ("0.0.0.0", "127.0.0.1", False),
        # Beyond loopback its names are no names of this machine any more.
        ("localhost", "192.0.2.1", False),
        ("192.0.2.1:7400", "192.0.2.1", True),
        ("192.0.2.2", "192.0.2.1", False),
        ("[2001:db8::1]", "2001:db8:0::1", True),
        ("mcp.example.org", "192.0.2.1", True),
        ("MCP.example.org:443", "192.0.2.1", True),
        ("a.corp.example", "192.0.2.1", True),
        ("corp.example", "192.0.2.1", False),
        ("a.b.corp.example", "192.0.2.1", False),
        ("[2001:db8:0:0::5]", "192.0.2.1", False),
        ("[2001:db8::5]", "192.0.2.1", True),
        ("", "127.0.0.1", False),
        ("localhost:7400:7400", "127.0.0.1", False),
        ("evil.example@localhost", "127.0.0.1", False),
        ("localhost/", "127.0.0.1", False),
        ("localhost, evil.example", "127.0.0.1", False),
        ("[::1", "::1", False),
    ],
)
def test_a_node_answers_to_its_own_names_only(host: str, local: str, named: bool) -> None:
    assert NAMES.host(host, local) is named


@pytest.mark.parametrize(
    ("origin", "local", "may_call"),
    [
        ("https://chat.example.org", "192.0.2.1", True),
        ("HTTPS://Chat.Example.org", "192.0.2.1", True),
        ("http://chat.example.org", "192.0.2.1", False),
        ("https://chat.example.org.evil.example", "192.0.2.1", False),
        ("null", "127.0.0.1", False),
        ("", "127.0.0.1", False),
        ("http://localhost:6274", "127.0.0.1", True),
        ("http://127.0.0.1", "127.0.0.1", True),
        ("http://[::1]:80", "127.0.0.1", True),
        ("http://[::2]", "127.0.0.1", False),
        ("http://localhost:6274", "192.0.2.1", False),
        ("http://localhost.evil.example", "127.0.0.1", False),
        ("http://evil.example@localhost.evil", "127.0.0.1", False),
        ("http://[", "127.0.0.1", False),
    ],
)
def test_pages_that_may_call_are_listed_ones_and_on_loopback_this_machines(
    origin: str, local: str, may_call: bool
) -> None:
    assert NAMES.origin(origin, local) is may_call


@pytest.mark.parametrize(
    "path",
    ["/", "/mcp", "/mcp/time", "/mcp/", "/mcp/*", "/mcp/%2A", "/api/v1/peers/eu-1", "/api/v1/keys/a@b.example",
     "/a%20b", "/.well-known/oauth-protected-resource/mcp", "/caf%C3%A9", "/x/..a", "/x/a.."],
)  # fmt: skip
def test_a_path_in_its_one_form_passes(path: str) -> None:
    assert is_canonical(path)


@pytest.mark.parametrize(
    "path",
    ["", "*", "mcp", "//mcp", "/mcp//time", "/mcp/../api/v1/status", "/mcp/.", "/./mcp", "/mcp/..", "/mcp/%2e%2e/api",
     "/mcp/%2E%2e", "/mcp%2ftime", "/%6dcp", "/mcp;v=1", "/mcp%3Bv=1", "/mcp\\time", "/mcp/%5c", "/mcp%00",
     "/mcp%0d%0a", "/mcp%", "/mcp%2", "/mcp%zz", "/mcp/%252e", "/mcp\n", "/mcp time", "/café", "/%7Euser", "/" * 3,
     "/" + "a" * PATH_CHARACTERS_MAX],
)  # fmt: skip
def test_a_path_that_could_be_read_as_another_is_refused(path: str) -> None:
    assert not is_canonical(path)
