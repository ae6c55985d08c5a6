"""Tables and texts on a terminal or in a pipe. What came from servers and peers is shown, never interpreted."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

_PIPE_COLUMNS = 10_000
_STYLES = {
    "alive": "green",
    "up": "green",
    "starting": "yellow",
    "suspect": "yellow",
    "draining": "yellow",
    "unreachable": "red",
    "down": "red",
    "left": "dim",
}
# C0 and C1 controls but tab and line feed: an escape sequence in a tool's answer must not drive the terminal.
_CONTROLS = {c: f"\\x{c:02x}" for c in (*range(0x09), *range(0x0B, 0x20), *range(0x7F, 0xA0))}


def safe(value: Any) -> str:
    """As text without control characters."""
    return str(value).translate(_CONTROLS)


def show(*parts: RenderableType) -> None:
    """To stdout; long lines are folded to a terminal and left alone, without colours or padding, in a pipe."""
    if sys.stdout.isatty():
        Console().print(Group(*parts), markup=False, highlight=False)
        return
    # A table takes no more than its cells need, so this width folds nothing.
    console = Console(width=_PIPE_COLUMNS, soft_wrap=True, color_system=None)
    with console.capture() as captured:
        console.print(Group(*parts), markup=False, highlight=False)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    shown = Text(title, style="bold") if title else None
    made = Table(
        title=shown, title_justify="left", box=None, pad_edge=False, header_style="dim", show_header=any(columns)
    )
    for column in columns:
        made.add_column(Text(column), overflow="fold")
    for row in rows:
        made.add_row(*(Text(safe(cell), style=_STYLES.get(str(cell), "")) for cell in row))
    return made
