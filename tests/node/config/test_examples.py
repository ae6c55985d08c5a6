from __future__ import annotations

from pathlib import Path

import pytest

from node.config import load
from node.settings.servers import OWN_PYTHON

EXAMPLES = Path(__file__).parents[3] / "deploy" / "examples"
FILES = sorted(EXAMPLES.glob("*.yaml"))


def test_there_are_examples_alone_and_as_a_mesh() -> None:
    assert {f.stem for f in FILES} >= {"single", "eu", "us", "ap", "gateway"}


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_every_example_loads(file: Path) -> None:
    config = load(file)
    assert config.servers


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_what_an_example_starts_is_there(file: Path) -> None:
    config = load(file)
    for server in (*config.servers.values(), *config.catalogue.values()):
        if server.command:
            assert server.command[0] == OWN_PYTHON
            assert (server.cwd / server.command[1]).is_file()


def test_the_nodes_of_the_example_mesh_dial_each_other() -> None:
    nodes = {name: load(EXAMPLES / f"{name}.yaml") for name in ("eu", "us", "ap")}
    for name, config in nodes.items():
        others = {c.federation.listen for n, c in nodes.items() if n != name}
        assert set(config.federation.static) == others
    assert len({c.http.listen for c in nodes.values()}) == 3
    assert len({c.node.mesh for c in nodes.values()}) == 1
    assert len({c.node.data_dir for c in nodes.values()}) == 3
