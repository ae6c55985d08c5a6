"""Options that verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Url = Annotated[str | None, typer.Option(help="Where the node answers; TOOLMESH_URL, else http://127.0.0.1:7400.")]
KeyFile = Annotated[Path | None, typer.Option(metavar="FILE", help="File with the API key; else TOOLMESH_KEY.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
Wait = Annotated[float, typer.Option(min=0.1, help="How long to wait for the answer, in seconds.")]
