"""Which server a URI belongs to, where the address does not say: by what servers list, then by their templates.

If two list the same URI, the first by name has it: lists show it once, under that server's definition, and reads go
there; the other's is at its own address. A URI that nobody lists goes to the template that fixes most of it, and
else to the only server whose resources share its scheme and authority, since servers hand out links that they do not
list.
"""

from __future__ import annotations

from collections.abc import Iterable

from node.endpoints.directory import Directory, Row
from node.endpoints.templates import origin_of, template
from node.ports import Visibility
from proto.records import Kind


def owner_of(uri: str, directory: Directory, visibility: Visibility) -> str | None:
    """The name under which this caller reaches the server; None where it cannot be told."""
    listing = directory.rows(Kind.RESOURCE, visibility).rows
    for row in listing:
        if uri in row.members:
            return row.name
    templating = directory.rows(Kind.TEMPLATE, visibility).rows
    return _by_template(uri, templating) or _by_origin(uri, (*listing, *templating))


def owner_of_reference(uri: str, directory: Directory, visibility: Visibility) -> str | None:
    """The same of a `ref/resource` in a completion, whose URI is mostly a template's own text."""
    for row in directory.rows(Kind.TEMPLATE, visibility).rows:
        if uri in row.members:
            return row.name
    return owner_of(uri, directory, visibility)


def _by_template(uri: str, rows: Iterable[Row]) -> str | None:
    best: tuple[int, str] | None = None
    for row in rows:
        for text in row.members:
            known = template(text)
            if (best is None or known.literal > best[0]) and known.matches(uri):
                best = known.literal, row.name
    return best[1] if best is not None else None


def _by_origin(uri: str, rows: Iterable[Row]) -> str | None:
    origin = origin_of(uri)
    if not origin:
        return None
    names = {row.name for row in rows if origin in row.origins}
    return names.pop() if len(names) == 1 else None
