"""The authorization server as a process of its own, and a person with a browser in front of it."""

from __future__ import annotations

import asyncio
import html
import json
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import aiohttp
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

HERE = Path(__file__).parent
PYTHON = HERE / ".venv" / "bin" / "python"
PEOPLE = {"ann": "ann's long password", "ben": "ben's long password"}
CLIENTS = {"gateway": "a secret of the gateway"}
START_S = 60.0


def lacking() -> str:
    return "" if (HERE / ".venv" / ".ready").exists() else "tests/identity_server/setup.sh has not run"


class AuthorizationServer:
    """`issuer` is its URL once it has started; a restart keeps it, and what it knows."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process: asyncio.subprocess.Process | None = None
        self.issuer = ""
        (directory / "people.json").write_text(json.dumps(PEOPLE))
        (directory / "clients.json").write_text(json.dumps(CLIENTS))
        self._new_key()

    async def start(self) -> None:
        port = str(urlsplit(self.issuer).port or 0)
        self._process = await asyncio.create_subprocess_exec(
            PYTHON,
            HERE / "server.py",
            port,
            self._directory,
            stdout=asyncio.subprocess.PIPE,
            env={"PATH": os.environ["PATH"], "PYTHONWARNINGS": "ignore"},
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(START_S):
            self.issuer = (await self._process.stdout.readline()).decode().strip()
        assert self.issuer, "the authorization server did not start"

    async def stop(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def rotate(self, *, keep: bool) -> None:
        """Sign with a new key from now on; `keep` the last one published, and none before it."""
        for old in self._directory.glob("old-*.pem"):
            old.unlink()
        if keep:
            (self._directory / "key.pem").rename(self._directory / "old-0.pem")
        self._new_key()
        await self.stop()
        await self.start()

    def issue(self, *, opaque: bool = False, life_s: int | None = None) -> None:
        """How tokens are from now on."""
        (self._directory / "opaque").touch() if opaque else (self._directory / "opaque").unlink(missing_ok=True)
        file = self._directory / "life_s"
        file.unlink(missing_ok=True) if life_s is None else file.write_text(str(life_s))

    def _new_key(self) -> None:
        pem = rsa.generate_private_key(65_537, 2_048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (self._directory / "key.pem").write_bytes(pem)


class Browser:
    """A person who signs in where asked and agrees to what is asked; `seen` are the pages' addresses."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._http = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))
        self.seen: list[str] = []

    async def close(self) -> None:
        await self._http.close()

    async def follow(self, url: str, until: str) -> dict[str, str]:
        """From `url` to the redirect that begins with `until`; the parameters that it carries."""
        form: dict[str, str] | None = None
        for _ in range(10):
            self.seen.append(url)
            headers = {"Referer": url, "Origin": "{0.scheme}://{0.netloc}".format(urlsplit(url))} if form else {}
            method = "POST" if form is not None else "GET"
            async with self._http.request(method, url, data=form, headers=headers, allow_redirects=False) as r:
                text = await r.text()
                if r.status in (301, 302, 303):
                    url, form = urljoin(url, r.headers["Location"]), None
                    if url.startswith(until):
                        return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
                    continue
                assert r.status == 200, (url, r.status, text[:300])
            form = self._filled(text)
        raise AssertionError(f"no end of pages: {self.seen}")

    def _filled(self, page: str) -> dict[str, str]:
        fields: dict[str, str] = {}
        for tag in re.findall(r"<input[^>]*>", page):
            found: dict[str, Any] = dict(re.findall(r'([a-z]+)="([^"]*)"', tag))
            if found.get("name") and (found.get("type") != "submit" or found["name"] == "allow"):
                fields[found["name"]] = html.unescape(found.get("value", ""))
        if "password" in fields:
            fields |= {"username": self._name, "password": PEOPLE[self._name]}
        return fields
