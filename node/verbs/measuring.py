"""The options of `toolmesh eval`. Like the command line itself it imports nothing heavy before it is asked to."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Literal

import typer

from proto.errors import Invalid


def evaluate(
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A set of queries and tools, or a folder of sets.")
    ] = None,
    retriever: Annotated[str, typer.Option(metavar="NAMES", help="router, bm25, dense, rrf, with commas.")] = "all",
    sets: Annotated[str, typer.Option(metavar="NAMES", help="Some of the sets, with commas; else all.")] = "",
    crowd: Annotated[bool, typer.Option("--crowd", help="Search the tools of all sets at once.")] = False,
    limit: Annotated[int, typer.Option(min=0, help="How many queries of each set at most; 0 for all.")] = 0,
    embedder: Annotated[str, typer.Option(metavar="NAME", help="As search.embedder.")] = "minilm",
    adapter: Annotated[str, typer.Option(metavar="WHICH", help="As search.adapter: true, false or a file.")] = "true",
    precision: Annotated[Literal["int8", "float32"], typer.Option(help="As search.precision.")] = "int8",
    vectors: Annotated[Path | None, typer.Option(metavar="DIR", help="Keep vectors there between runs.")] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the figures there as JSON, too.")] = None,
    export: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Measure nothing: write the tools of a running node there.")
    ] = None,
    url: Annotated[str | None, typer.Option(help="Of that node; TOOLMESH_URL, else http://127.0.0.1:7400.")] = None,
    key_file: Annotated[Path | None, typer.Option(metavar="FILE", help="Its API key; else TOOLMESH_KEY.")] = None,
) -> None:
    """Measure how well search finds the right tools of sets of queries, beside plain retrievers in the same run."""
    if export is not None:
        from node.verbs.exporting import export as write
        from node.verbs.remote import Remote

        typer.echo(asyncio.run(write(Remote.of(url, key_file), export)))
        return
    if data is None:
        raise Invalid("--data is missing: name the folder that holds the sets")
    from node.verbs.evaluating import evaluate as measure

    typer.echo(
        measure(
            data,
            retrievers=retriever,
            names=sets,
            crowd=crowd,
            limit=limit,
            embedder=embedder,
            adapter=adapter,
            precision=precision,
            vectors=vectors,
            json=json,
        )
    )
