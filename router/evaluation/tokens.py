"""What an answer costs the agent that reads it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from router.embedders.minilm import PACKAGE

CHARACTERS_A_TOKEN = 4


def counter() -> Callable[[str], int]:
    """Counts WordPieces, of which English takes some more than of a large model's tokens (a strict stand-in); a
    token for every four characters where the model package is not installed."""
    spec = importlib.util.find_spec(PACKAGE)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        file = Path(place) / "model" / "tokenizer.json"
        if file.is_file():
            from tokenizers import Tokenizer

            tokenizer = Tokenizer.from_file(str(file))
            tokenizer.no_truncation()
            tokenizer.no_padding()
            return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)
    return lambda text: -(-len(text) // CHARACTERS_A_TOKEN)


def text_of(result: dict[str, Any]) -> str:
    """The text parts of an MCP tool result, which is what a model is shown."""
    return "\n".join(str(part.get("text", "")) for part in result.get("content", ()))
