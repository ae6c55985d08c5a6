"""The import package `proto` is ours alone (proto-plus claims the same name)."""

from __future__ import annotations

from importlib.metadata import packages_distributions
from pathlib import Path

import proto.records


def test_nobody_but_toolmesh_provides_the_package_proto() -> None:
    # An editable installation lists no files, so none at all is right as well.
    assert set(packages_distributions().get("proto", ())) <= {"toolmesh"}


def test_the_package_proto_is_the_one_beside_these_tests() -> None:
    assert (Path(proto.records.__file__).parent / "mesh.proto").is_file()
