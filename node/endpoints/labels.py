"""What stands behind a name as it is listed beside others: SERVER__NAME, cut and tagged where it had to be."""

from __future__ import annotations

import re
from typing import NamedTuple

from node.catalog import Catalog, Member
from node.endpoints.directory import Directory
from node.ports import Visibility
from proto.errors import Conflict, Invalid, Unknown
from proto.names import LISTED_TOOL_MAX
from proto.records import Kind

_TAG = re.compile(r"_[0-9a-f]{8}$")
_CUT = LISTED_TOOL_MAX - len("_12345678")


class Labelled(NamedTuple):
    """A tool or prompt as its server knows it. `server` is a name by which the caller reaches it."""

    server: str
    name: str
    member: Member


def labelled(kind: Kind, label: str, catalog: Catalog, directory: Directory, visibility: Visibility) -> Labelled:
    """What is listed as `label`, or would be under another name of its server.

    Raises `Unknown`, or `Conflict` where several servers have come to bear the name.
    """
    server, _, name = label.partition("__")
    conflict: Conflict | None = None
    try:
        # A dict lookup or two: no call waits until what has changed is listed anew.
        route = catalog.route(server, visibility)
    except (Unknown, Invalid):
        pass
    except Conflict as e:
        conflict = e
    else:
        member = route.shown(kind, name, visibility)
        if member is not None:
            return Labelled(server, name, member)
    if _TAG.search(label):
        # What stands before the first __ of a rewritten name is the server's, unless that was cut itself.
        rows = directory.rows(kind, visibility)
        row = rows.by_name.get(server)
        for found in (row,) if row is not None else (r for r in rows.rows if _cut(r.name) == label[:_CUT]):
            if (original := found.labels.get(label)) is not None:
                return Labelled(found.name, original, found.members[original])
    raise conflict or Unknown(f"no {kind} named {label!r}; here they are named SERVER__NAME, as they are listed")


def _cut(server: str) -> str:
    """What a label that was cut begins with."""
    return f"{server}__"[:_CUT]
