"""What a change costs: the documents it touches, counted, among twenty owners' tools."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pytest

from federation.events import Liveness
from node.catalog import Catalog
from node.indexing import Indexing
from node.views import MeshViews
from proto.names import NodeId
from proto.records import Kind, Record, RecordKey
from router.ports import ToolEntry, ToolKey
from router.router import Router

MakeServer = Callable[..., list[Record]]
MakeTool = Callable[..., Record]

OWNERS = tuple(NodeId.of("mesh.test", "eu", f"n-{i}") for i in range(20))
TOOLS = tuple(f"t{i}" for i in range(30))
FILES = ("files", *TOOLS)


class CountingRouter(Router):
    """A router that remembers what it was given."""

    def __init__(self) -> None:
        super().__init__(None, None)
        self.given: list[str] = []
        self.taken: list[str] = []

    def apply(self, puts: Iterable[ToolEntry], deletes: Iterable[ToolKey]) -> None:
        puts, deletes = list(puts), list(deletes)
        self.given += [e.key.tool for e in puts]
        self.taken += [k.tool for k in deletes]
        super().apply(puts, deletes)


@dataclass
class Mesh:
    """Twenty owners with two servers each, all of it indexed; `touched` forgets what it has told."""

    catalog: Catalog
    router: CountingRouter = field(default_factory=CountingRouter)

    def __post_init__(self) -> None:
        Indexing(self.catalog, self.router)
        self.views = MeshViews(self.catalog)
        self.told = 0
        self.catalog.listen(lambda *_: self._count())

    def _count(self) -> None:
        self.told += 1

    def touched(self) -> tuple[int, list[str], list[str]]:
        """(times that listeners were told, documents indexed, documents taken out) since it was last asked."""
        counts = self.told, self.router.given, self.router.taken
        self.told, self.router.given, self.router.taken = 0, [], []
        return counts


@pytest.fixture
def mesh(catalog: Catalog, make_server: MakeServer) -> Mesh:
    mesh = Mesh(catalog)
    for owner in OWNERS:
        mesh.views.changed(owner, [*make_server(*FILES), *make_server("git", *TOOLS)], ())
    told, given, taken = mesh.touched()
    assert (told, len(given), taken) == (2 * len(OWNERS), 2 * len(TOOLS) * len(OWNERS), [])
    return mesh


def test_one_tool_s_change_touches_one_document(mesh: Mesh, make_tool: MakeTool) -> None:
    mesh.views.changed(OWNERS[7], [make_tool("files", "t3", "says something else")], ())
    assert mesh.touched() == (1, ["t3"], [])
    mesh.views.changed(OWNERS[7], (), [RecordKey(Kind.TOOL, "files/t4")])
    assert mesh.touched() == (1, [], ["t4"])


@pytest.mark.parametrize("state", ["down", "up"])
def test_a_server_that_comes_or_goes_touches_no_document(mesh: Mesh, make_server: MakeServer, state: str) -> None:
    (record,) = make_server("files", state=state, health={"state": state, "cause": "it says so", "since": 77})
    mesh.views.changed(OWNERS[7], [record], ())
    assert mesh.touched() == (0, [], [])
    server = mesh.catalog.find("n-7", "files")
    assert server is not None
    assert server.health == {"state": state, "cause": "it says so", "since": 77}


def test_what_a_server_says_of_itself_touches_its_own_documents_only(mesh: Mesh, make_server: MakeServer) -> None:
    (record,) = make_server("files", instructions="read before you write")
    mesh.views.changed(OWNERS[7], [record], ())
    assert mesh.touched() == (1, list(TOOLS), [])


def test_an_owner_under_suspicion_touches_nothing_until_its_listing_ends(mesh: Mesh) -> None:
    for state in (Liveness.SUSPECT, Liveness.DOWN, Liveness.ALIVE, Liveness.DRAINING, Liveness.DOWN):
        mesh.views.liveness(OWNERS[7], state, listed=True)
    assert mesh.touched() == (0, [], [])
    mesh.views.liveness(OWNERS[7], Liveness.DOWN, listed=False)
    assert mesh.touched() == (2, [], [*TOOLS, *TOOLS])
    mesh.views.liveness(OWNERS[7], Liveness.ALIVE, listed=True)
    assert mesh.touched() == (2, [*TOOLS, *TOOLS], [])


def test_a_prompt_a_resource_and_a_template_are_documents_of_their_own(mesh: Mesh) -> None:
    offered = {
        Kind.PROMPT: ("review", {"name": "review"}),
        Kind.RESOURCE: ("wiki://home", {"uri": "wiki://home"}),
        Kind.TEMPLATE: ("wiki://{page}", {"uriTemplate": "wiki://{page}"}),
    }
    for kind, (name, definition) in offered.items():
        mesh.views.changed(OWNERS[7], [Record.of(kind, f"files/{name}", definition)], ())
        assert mesh.touched() == (1, [name], [])
        assert mesh.router.knows(ToolKey("n-7", "files", name, str(kind)))
        mesh.views.changed(OWNERS[7], (), [RecordKey(kind, f"files/{name}")])
        assert mesh.touched() == (1, [], [name])
        assert not mesh.router.knows(ToolKey("n-7", "files", name, str(kind)))


def test_what_a_server_says_of_itself_touches_its_prompts_after_its_tools(mesh: Mesh, make_server: MakeServer) -> None:
    mesh.views.changed(OWNERS[7], [Record.of(Kind.PROMPT, "files/review", {"name": "review"})], ())
    mesh.touched()
    (record,) = make_server("files", instructions="read before you write")
    mesh.views.changed(OWNERS[7], [record], ())
    assert mesh.touched() == (1, [*TOOLS, "review"], [])
