"""A sample MCP server: small, exact operations on text."""

import difflib
import re
import unicodedata
from collections import Counter
from typing import Annotated, Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import Field

server = MCPServer("text", version="1.0.0", instructions="Works on the text that is given to it.", log_level="WARNING")
READ_ONLY = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)

Text = Annotated[str, Field(max_length=1_000_000, description="The text")]
WORD = re.compile(r"\w+(?:['’-]\w+)*")
EMAIL = re.compile(
    r"(?<![\w.+-])[\w.+-]{1,64}@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.){1,8}[a-z]{2,63}(?![\w-])", re.I
)
URL = re.compile(r"https?://[^\s<>\"']+", re.I)


@server.tool(title="Count words", annotations=READ_ONLY)
def count_words(text: Text) -> dict[str, Any]:
    """Number of words, characters, sentences and paragraphs in a text, and how many minutes it takes to read."""
    words = WORD.findall(text)
    sentences = [s for s in re.split(r"[.!?…]+(?:\s|$)", text) if WORD.search(s)]
    return {
        "words": len(words),
        "characters": len(text),
        "sentences": len(sentences),
        "paragraphs": len([p for p in re.split(r"\n\s*\n", text) if p.strip()]),
        "reading_minutes": round(len(words) / 230, 1),
    }


@server.tool(title="Most frequent words", annotations=READ_ONLY)
def frequent_words(
    text: Text,
    count: Annotated[int, Field(ge=1, le=200)] = 10,
    shortest: Annotated[int, Field(ge=1, le=20, description="Leave out words with fewer letters")] = 4,
) -> dict[str, int]:
    """Which words occur most often in a text, with their counts: its likely keywords."""
    words = (w.casefold() for w in WORD.findall(text) if len(w) >= shortest)
    return dict(Counter(words).most_common(count))


@server.tool(title="Make a slug", annotations=READ_ONLY)
def slugify(
    text: Annotated[str, Field(min_length=1, max_length=1000)], length: Annotated[int, Field(ge=8, le=200)] = 60
) -> dict[str, str]:
    """Turn a title into a URL-safe slug: lower case, ASCII, words joined by hyphens."""
    special = str.maketrans({"ß": "ss", "æ": "ae", "ø": "o", "œ": "oe", "ł": "l", "đ": "d", "þ": "th"})
    plain = unicodedata.normalize("NFKD", text.lower().translate(special)).encode("ascii", "ignore").decode()
    slug = "-".join(re.findall(r"[a-z0-9]+", plain))[:length].strip("-")
    if not slug:
        raise ToolError(f"{text[:40]!r} holds no letter that can be written in ASCII.")
    return {"slug": slug}


@server.tool(title="Compare two texts", annotations=READ_ONLY)
def diff_texts(
    before: Annotated[str, Field(max_length=200_000)],
    after: Annotated[str, Field(max_length=200_000)],
    context: Annotated[int, Field(ge=0, le=20, description="Unchanged lines shown around each change")] = 3,
) -> dict[str, Any]:
    """Show what changed between two versions of a text as a unified diff, and how similar they are."""
    old, new = before.splitlines(), after.splitlines()
    diff = list(difflib.unified_diff(old, new, "before", "after", n=context, lineterm=""))
    same = difflib.SequenceMatcher(None, old, new).ratio()
    return {"identical": before == after, "similar_lines_percent": round(100 * same, 1), "diff": "\n".join(diff)}


@server.tool(title="Extract e-mail addresses", annotations=READ_ONLY)
def extract_emails(text: Text) -> dict[str, list[str]]:
    """Find all e-mail addresses in a text, each once, in order of appearance."""
    return {"emails": list(dict.fromkeys(m.group().strip(".").lower() for m in EMAIL.finditer(text)))}


@server.tool(title="Extract links", annotations=READ_ONLY)
def extract_links(text: Text) -> dict[str, list[str]]:
    """Find all web addresses (http and https URLs) in a text, without the punctuation that follows them."""
    return {"links": list(dict.fromkeys(u.rstrip(".,;:!?)]}") for u in URL.findall(text)))}


@server.tool(title="Change letter case", annotations=READ_ONLY)
def change_case(
    text: Annotated[str, Field(min_length=1, max_length=10_000)],
    style: Annotated[str, Field(pattern="^(camel|pascal|snake|kebab|constant|title)$", description="Naming style")],
) -> dict[str, str]:
    """Rewrite a name in camelCase, PascalCase, snake_case, kebab-case, CONSTANT_CASE or Title Case."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", text)
    words = [w.lower() for w in re.findall(r"[^\W_]+", spaced)]
    if not words:
        raise ToolError("The text holds no letters or digits.")
    capital = [w.capitalize() for w in words]
    styles = {
        "camel": words[0] + "".join(capital[1:]),
        "pascal": "".join(capital),
        "snake": "_".join(words),
        "kebab": "-".join(words),
        "constant": "_".join(words).upper(),
        "title": " ".join(capital),
    }
    return {"text": styles[style]}


if __name__ == "__main__":
    server.run()
