"""Leaf modules of the MCP SDK, without the package around them.

To name `mcp.shared.inbound` runs `mcp/__init__`, which brings in Starlette, uvicorn and httpx2: a third of a node's
start and 25 MB that it never uses. The leaves needed here are pure and import `mcp_types` alone, so they are executed
from where the installed package has them, under names of their own.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING


def _leaf(name: str) -> ModuleType:
    alias = f"{__name__}_{name}"
    package = find_spec("mcp")
    if package is None or package.origin is None:
        raise ImportError("the package 'mcp' is not installed; install toolmesh with its dependencies")
    spec = spec_from_file_location(alias, Path(package.origin).parent / "shared" / f"{name}.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"the installed package 'mcp' has no module shared.{name}; toolmesh needs mcp 2.3")
    module = module_from_spec(spec)
    # Dataclasses look their own module up while they are made.
    sys.modules[alias] = module
    spec.loader.exec_module(module)
    return module


if TYPE_CHECKING:
    from mcp.shared import inbound, subscriptions
else:
    inbound = _leaf("inbound")
    subscriptions = _leaf("subscriptions")

__all__ = ["inbound", "subscriptions"]
