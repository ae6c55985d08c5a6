"""What the verbs of `toolmesh audit` do: pages from a running node, and checks of what lies on a disk."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Any, Literal

from node.audit.chain import Head
from node.audit.signing import KEY_FILE, AnyKey, Trust, TrustedKeys, key_ids
from node.audit.sources import check
from node.audit.store import FILE
from node.audit.verifying import Verdict
from node.verbs.remote import Remote
from node.verbs.render_audit import record_line
from proto import jsons
from proto.errors import Invalid

PAGE = 1_000
POLL_S = 25.0

COLUMNS = (
    "seq", "at", "node", "epoch", "kind", "action", "subject", "issuer", "tenant", "principal_kind", "actors",
    "credential", "side", "entry", "server", "tool", "owner", "method", "ran_at", "outcome", "rule", "reason",
    "took_ms", "attempts", "call_id", "trace", "bytes_in", "bytes_out", "params_digest", "answer_digest", "prev",
    "hash",
)  # fmt: skip

# What a spreadsheet would take for a formula, and what would begin a new cell or line in one.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


async def tail(remote: Remote, asked: Mapping[str, str], limit: int, follow: bool, as_json: bool) -> None:
    first = await _page(remote, asked, limit=str(limit), order="newest")
    records = list(reversed(first["records"]))
    _print(records, as_json)
    # Of what does not fit the question some may have come since; the head was read after them.
    seen = records[-1]["seq"] if records else int(str(first.get("head") or "0").partition(":")[0])
    while follow:
        waiting = replace(remote, timeout_s=max(remote.timeout_s, POLL_S + 15))
        page = await _page(waiting, asked, limit=str(PAGE), order="oldest", after=str(seen), wait_s=str(POLL_S))
        _print(page["records"], as_json)
        if page["records"]:
            seen = page["records"][-1]["seq"]


async def query(remote: Remote, asked: Mapping[str, str], limit: int, as_json: bool) -> bool:
    """False: some node did not answer."""
    if asked.get("mesh"):
        page = await _page(remote, asked, limit=str(min(limit, PAGE)))
        _print(page["records"], as_json)
        _say_if_none(bool(page["records"]))
        for missing in page["unanswered"]:
            print(f"toolmesh: {missing['node']} did not answer in full: {missing['reason']}", file=sys.stderr)
        return not page["unanswered"]
    found = False
    async for records in _pages(remote, asked, "newest", limit):
        found = found or bool(records)
        _print(records, as_json)
    _say_if_none(found)
    return True


def _say_if_none(found: bool) -> None:
    if not found:
        # Beside the answer, which stays empty for whoever counts its lines.
        print("no record fits", file=sys.stderr)


async def export(remote: Remote, asked: Mapping[str, str], form: Literal["jsonl", "csv"], out: Path | None) -> int:
    """How many records. Raises `Invalid` where the file cannot be written."""
    count = 0
    try:
        with out.open("w", encoding="utf-8", newline="") if out else nullcontext(sys.stdout) as f:
            if form == "csv":
                csv.writer(f).writerow(COLUMNS)
            async for records in _pages(remote, asked, "oldest", None):
                count += len(records)
                _write(f, records, form)
    except OSError as e:
        raise Invalid(f"--out {out} cannot be written: {e.strerror or e}") from None
    return count


def _write(f: IO[str], records: Iterable[dict[str, Any]], form: str) -> None:
    if form == "csv":
        csv.writer(f).writerows(map(csv_row, records))
    else:
        f.writelines(f"{jsons.dumps(record).decode()}\n" for record in records)


def csv_row(record: Mapping[str, Any]) -> list[Any]:
    """The cells of one record, none of which a spreadsheet would run."""
    who, what, via = (record.get(part) or {} for part in ("who", "what", "via"))
    size, digests = record.get("bytes") or {}, record.get("digests") or {}
    flat = {
        **record, **what, "subject": who.get("subject"), "issuer": who.get("issuer"), "tenant": who.get("tenant"),
        "principal_kind": who.get("kind"), "actors": " ".join(who.get("actors", ())),
        "credential": who.get("credential"),
        "entry": via.get("entry") or via.get("address"), "tool": what.get("tool") or what.get("object"),
        "bytes_in": size.get("in"), "bytes_out": size.get("out"), "params_digest": digests.get("params"),
        "answer_digest": digests.get("answer"),
    }  # fmt: skip
    return [_cell(flat.get(column)) for column in COLUMNS]


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, int | float):
        return value
    text = str(value)
    # OWASP, CSV Injection: a quote mark makes a text of it, whatever reads it.
    return f"'{text}" if text.startswith(_FORMULA) else text


async def _pages(
    remote: Remote, asked: Mapping[str, str], order: Literal["newest", "oldest"], limit: int | None
) -> AsyncIterator[list[dict[str, Any]]]:
    cursor: dict[str, str] = {}
    left = limit
    while left is None or left > 0:
        page = await _page(remote, asked, order=order, limit=str(min(PAGE, left or PAGE)), **cursor)
        yield page["records"]
        if page["next"] is None:
            return
        left = None if left is None else left - len(page["records"])
        cursor = {"before" if order == "newest" else "after": str(page["next"])}


async def _page(remote: Remote, asked: Mapping[str, str], **more: str) -> dict[str, Any]:
    return await remote.get("/api/v1/audit", **{k: v for k, v in {**asked, **more}.items() if v})


def _print(records: Sequence[dict[str, Any]], as_json: bool) -> None:
    lines = io.StringIO()
    for record in records:
        lines.write(f"{jsons.dumps(record).decode() if as_json else record_line(record)}\n")
    sys.stdout.write(lines.getvalue())
    sys.stdout.flush()


# ---- offline ----------------------------------------------------------------------------------------


def verify(
    files: Sequence[Path],
    from_store: bool,
    config: Path,
    ca: Path | None,
    key: Path | None,
    after: str,
    head: str,
) -> Verdict:
    """Raises `Invalid` for what cannot be read, or makes no sense together."""
    if from_store and files:
        raise Invalid("--from-store and a FILE exclude each other; give one of them")
    if not (from_store or files):
        raise Invalid("name a FILE to check, or give --from-store and the node's configuration by -c")
    node, trust, paths = "", _trust(ca, key), list(files)
    if from_store:
        from node.audit.choose import signer_for
        from node.config import load

        loaded = load(config)
        node, paths = loaded.node.name, [loaded.node.data_dir / FILE]
        if not (ca or key):
            tls = loaded.federation.tls
            # A check makes no key where there is none.
            own = signer_for(loaded).key_id if tls or (loaded.node.data_dir / KEY_FILE).is_file() else ""
            trust = TrustedKeys(frozenset({own}), _read(tls.ca, "federation.tls.ca") if tls else b"")
    heads = [Head.parse(head)] if head else []
    return check(paths, trust, node=node, after=Head.parse(after) if after else None, heads=heads)


def _trust(ca: Path | None, key: Path | None) -> Trust:
    if ca is None and key is None:
        return AnyKey()
    keys = frozenset({key_ids(_read(key, "--key"), str(key))}) if key else frozenset[str]()
    return TrustedKeys(keys, _read(ca, "--ca") if ca else b"")


def _read(file: Path, what: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as e:
        raise Invalid(f"{what} {file} cannot be read: {e.strerror or e}") from None


def shown(verdict: Verdict) -> dict[str, Any]:
    """As JSON."""
    told = asdict(verdict)
    told["flaw"] = verdict.flaw._asdict() if verdict.flaw else None
    return {"intact": verdict.intact, **told}
