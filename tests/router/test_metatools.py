from __future__ import annotations

import hashlib

import pytest

from proto import jsons
from router.aliases import ALIASES
from router.arguments import fold
from router.budget import tokens
from router.metatools import META_TOOLS, READ_ONLY_TOOL, SPELLINGS

# Clients pin descriptions: change this only together with a line in the changelog.
PINNED = "6338e5d769a2ed68"
TOKENS_MAX = 500


def test_the_three_tools_stay_byte_stable() -> None:
    assert [tool["name"] for tool in META_TOOLS] == ["search_mcp_server", "add_mcp_server", "use_tool"]
    assert hashlib.sha256(jsons.dumps(META_TOOLS)).hexdigest()[:16] == PINNED


def test_all_that_a_model_is_sent_of_them_costs_little() -> None:
    sent = [{key: tool[key] for key in ("name", "description", "inputSchema")} for tool in META_TOOLS]
    text = "\n".join(jsons.dumps(tool).decode() for tool in sent)
    assert len(text) / 4 < 350
    # WordPiece counts every quotation mark: no model's own tokenizer makes as much of it.
    counter = pytest.importorskip("router.evaluation.tokens").counter()
    assert counter(text) <= TOKENS_MAX
    assert tokens(text) <= 1.2 * TOKENS_MAX


def test_every_argument_has_a_type_and_every_required_one_exists() -> None:
    for tool in (*META_TOOLS, READ_ONLY_TOOL, *(t for family in ALIASES.values() for t in family)):
        schema = tool["inputSchema"]
        assert set(schema["required"]) <= set(schema["properties"])
        assert all(p["type"] for p in schema["properties"].values())
        assert tool["description"]
        assert isinstance(tool["annotations"]["readOnlyHint"], bool)


def test_the_npm_routers_names_are_known() -> None:
    assert [SPELLINGS[fold(name)] for name in ("SearchMcpServer", "AddMcpServer", "UseTool")] == [
        tool["name"] for tool in META_TOOLS
    ]
