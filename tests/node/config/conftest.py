from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from node.config import NodeConfig, load
from proto.errors import Invalid

Load = Callable[[str], NodeConfig]
Refused = Callable[[str], list[str]]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith("TOOLMESH_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def load_text(tmp_path: Path) -> Load:
    """Load a configuration from its text, written to node.yaml in tmp_path."""

    def load_it(text: str) -> NodeConfig:
        path = tmp_path / "node.yaml"
        path.write_text(text)
        return load(path)

    return load_it


@pytest.fixture
def refused(load_text: Load) -> Refused:
    """The lines with which a configuration is refused."""

    def lines(text: str) -> list[str]:
        with pytest.raises(Invalid) as e:
            load_text(text)
        return e.value.message.splitlines()

    return lines
