"""A server with a tool that reads, one that writes, a prompt, a resource and a template."""

from mcp.server.mcpserver import MCPServer
from mcp_types import ToolAnnotations

server = MCPServer("shelf", version="1.0.0", instructions="A shelf of books.", log_level="WARNING")


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def count_books() -> int:
    """How many books stand on the shelf."""
    return 7


@server.tool()
def burn_book(title: str) -> str:
    """Burn a book."""
    return f"{title} is ash"


@server.prompt()
def praise_author(author: str) -> str:
    """A letter that praises an author."""
    return f"Praise {author} in a letter."


@server.resource("shelf://rules")
def rules() -> str:
    """House rules of the reading room."""
    return "Be quiet."


@server.resource("shelf://book/{title}")
def book(title: str) -> str:
    """The full text of a book."""
    return f"{title}, chapter one."


if __name__ == "__main__":
    server.run()
