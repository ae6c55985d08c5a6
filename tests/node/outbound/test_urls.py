"""URLs as somebody else writes them, who would like them to be read in two ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.outbound.outbound import Outbound
from proto.errors import Invalid

OUTBOUND = Outbound(["127.0.0.9", "corp.example:8443"])


@pytest.mark.parametrize(
    ("url", "dialled"),
    [
        ("https://mcp.example.org/mcp?x=1", "https://mcp.example.org/mcp?x=1"),
        ("HTTPS://MCP.Example.org:443/a/../b#frag", "https://mcp.example.org/b"),
        ("https://bücher.example/", "https://xn--bcher-kva.example/"),
        ("https://8.8.8.8/", "https://8.8.8.8/"),
        ("https://[2606:4700::1111]:8443/", "https://[2606:4700::1111]:8443/"),
        ("http://127.0.0.9:8080/", "http://127.0.0.9:8080/"),
        ("https://corp.example:8443/", "https://corp.example:8443/"),
        ("https://mcp.example.org./", "https://mcp.example.org./"),
    ],
)
def test_a_public_address_is_given_back_as_it_will_be_dialled(url: str, dialled: str) -> None:
    assert OUTBOUND.check_url(url) == dialled


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://mcp.example.org/", "must begin with https://"),
        ("ftp://mcp.example.org/", "not an http"),
        ("file:///etc/passwd", "not an http"),
        ("gopher://127.0.0.1:6379/_INFO", "not an http"),
        ("javascript:alert(1)", "not an http"),
        ("data:text/html,x", "not an http"),
        ("https:///x", "not an http"),
        ("//mcp.example.org/x", "not an http"),
        ("mcp.example.org", "not an http"),
        ("", "not an http"),
        ("https://localhost:0/", "not an http"),
        ("https://x.example:99999/", "no URL"),
        ("https://127.0.0.1/", "loopback"),
        ("https://127.0.0.1./", "it would be 127.0.0.1"),
        ("https://[::1]/", "loopback"),
        ("https://[::ffff:7f00:1]/", "IPv4-mapped"),
        ("https://[::ffff:127.0.0.1]/", "IPv4-mapped"),
        ("https://[64:ff9b::a9fe:a9fe]/", "NAT64"),
        ("https://[fe80::1%25eth0]/", "no host name"),
        ("https://169.254.169.254/latest/meta-data", "metadata"),
        ("https://2130706433/", "it would be 127.0.0.1"),
        ("https://0x7f000001/", "it would be 127.0.0.1"),
        ("https://0x7f.1/", "it would be 127.0.0.1"),
        ("https://0177.0.0.1/", "it would be 127.0.0.1"),
        ("https://127.1/", "it would be 127.0.0.1"),
        ("https://127.0.0.1.example.1/", "four decimal numbers"),
        ("https://1.2.3.4.5/", "four decimal numbers"),
        ("https://１２７.0.0.1/", "loopback"),
        ("https://127。0。0。1/", "loopback"),
        ("https://①②⑦.0.0.1/", "loopback"),
        ("https://mcp.example.org%2f@127.0.0.1/", "user name"),
        ("https://mcp.example.org@127.0.0.1/", "user name"),
        ("https://@127.0.0.1/", "user name"),
        ("https://user:pass@mcp.example.org/", "user name"),
        ("https://127.0.0.1%2f.example.org/", "no host name"),
        ("https://127%2e0%2e0%2e1/", "no host name"),
        ("https://mcp.example.org\\@127.0.0.1/", "backslash"),
        ("https:\\\\127.0.0.1/", "backslash"),
        ("https://mcp.example.org /", "blank"),
        (" https://mcp.example.org/", "blank"),
        ("https://mcp.exa\tmple.org/", "control character"),
        ("https://mcp.example.org/\r\nHost: x", "control character"),
        ("https://mcp.example.org/\x00", "control character"),
        ("https://a_b..example/", "no host name"),
        ("https://-x$.example/", "no host name"),
        ("https://mcp.example.org:22/", "port 22"),
        ("https://mcp.example.org:25/", "port 25"),
        ("http://corp.example:80/", "must begin with https://"),
        ("https://x.example/" + "a" * 5_000, "longer than"),
    ],
)
def test_what_may_not_be_dialled_is_refused_by_name(url: str, why: str) -> None:
    with pytest.raises(Invalid, match=r"^catalogue entry") as caught:
        OUTBOUND.check_url(url, what="catalogue entry")
    assert why in caught.value.message


def test_a_refusal_does_not_repeat_what_may_be_a_secret() -> None:
    for url in ("https://user:hunter2@10.0.0.1/", "https://10.0.0.1/?token=hunter2"):
        with pytest.raises(Invalid) as caught:
            OUTBOUND.check_url(url)
        assert "hunter2" not in caught.value.message


@given(st.text(max_size=200) | st.text(alphabet="htps:/@[]%.0127xf-#?\\ ", max_size=60))
def test_whatever_is_written_is_dialled_as_checked_or_refused(text: str) -> None:
    for url in (text, f"https://{text}", f"https://{text}/x"):
        try:
            dialled = OUTBOUND.check_url(url)
        except Invalid:
            continue
        assert OUTBOUND.check_url(dialled) == dialled
