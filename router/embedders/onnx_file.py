"""Writes an ONNX model: the few messages of onnx.proto that a graph of ours needs, without the package `onnx`.

Field numbers are those of onnx.proto3 (https://github.com/onnx/onnx). A message is a run of fields; a field is its
number and wire type as one varint, then a varint, four bytes, or a length and that many bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

IR_VERSION = 9
OPSETS = {"": 20, "com.microsoft": 1}

Attribute = int | float | str | tuple[int, ...]
Shape = tuple[int | str, ...]
"""Sizes, or names of sizes that differ from run to run."""

_VARINT, _BYTES, _FOUR_BYTES = 0, 2, 5
_FLOAT = 1
_TYPES = {np.dtype(t): n for t, n in ((np.float32, _FLOAT), (np.uint8, 2), (np.int8, 3), (np.int32, 6), (np.int64, 7))}


class Graph:
    """Grows node by node, in the order in which they are computed; values are known by their names."""

    def __init__(self) -> None:
        self._nodes: list[bytes] = []
        self._constants: list[bytes] = []
        self._values = 0

    def constant(self, array: NDArray[Any]) -> str:
        """float32, int8 or int64."""
        name = self._name()
        dims = b"".join(_number(1, size) for size in array.shape)
        values = np.ascontiguousarray(array).tobytes()
        self._constants.append(dims + _number(2, _TYPES[array.dtype]) + _text(8, name) + _message(9, values))
        return name

    def apply(self, operator: str, *inputs: str, domain: str = "", **attributes: Attribute) -> str:
        """The one output of an operator; an input "" is one that is left out."""
        return self.split(operator, inputs, 1, domain, attributes)[0]

    def split(
        self,
        operator: str,
        inputs: Iterable[str],
        outputs: int,
        domain: str = "",
        attributes: Mapping[str, Attribute] | None = None,
    ) -> list[str]:
        names = [self._name() for _ in range(outputs)]
        self._nodes.append(
            b"".join(_text(1, name) for name in inputs)
            + b"".join(_text(2, name) for name in names)
            + _text(4, operator)
            + b"".join(_message(5, _attribute(name, value)) for name, value in (attributes or {}).items())
            + _text(7, domain)
        )
        return names

    def model(
        self,
        inputs: Mapping[str, Shape],
        outputs: Mapping[str, Shape],
        types: Mapping[str, type[np.generic]] | None = None,
    ) -> bytes:
        """The file. Inputs and outputs are float32 where `types` has nothing else."""
        of = {name: _TYPES[np.dtype(each)] for name, each in (types or {}).items()}
        graph = (
            b"".join(_message(1, node) for node in self._nodes)
            + _text(2, "graph")
            + b"".join(_message(5, constant) for constant in self._constants)
            + b"".join(_message(11, _value(name, shape, of.get(name, _FLOAT))) for name, shape in inputs.items())
            + b"".join(_message(12, _value(name, shape, of.get(name, _FLOAT))) for name, shape in outputs.items())
        )
        opsets = b"".join(_message(8, _text(1, domain) + _number(2, version)) for domain, version in OPSETS.items())
        return _number(1, IR_VERSION) + _text(2, "toolmesh") + _message(7, graph) + opsets

    def _name(self) -> str:
        self._values += 1
        return f"v{self._values}"


def _attribute(name: str, value: Attribute) -> bytes:
    match value:
        case float():
            return _text(1, name) + _tag(2, _FOUR_BYTES) + struct.pack("<f", value) + _number(20, 1)
        case int():
            return _text(1, name) + _number(3, value) + _number(20, 2)
        case str():
            return _text(1, name) + _text(4, value) + _number(20, 3)
    return _text(1, name) + b"".join(_number(8, each) for each in value) + _number(20, 7)


def _value(name: str, shape: Sequence[int | str], kind: int) -> bytes:
    sizes = (_number(1, size) if isinstance(size, int) else _text(2, size) for size in shape)
    dims = b"".join(_message(1, size) for size in sizes)
    return _text(1, name) + _message(2, _message(1, _number(1, kind) + _message(2, dims)))


def _text(field: int, text: str) -> bytes:
    return _message(field, text.encode())


def _message(field: int, content: bytes) -> bytes:
    return _tag(field, _BYTES) + _varint(len(content)) + content


def _number(field: int, number: int) -> bytes:
    return _tag(field, _VARINT) + _varint(number)


def _tag(field: int, wire_type: int) -> bytes:
    return _varint(field << 3 | wire_type)


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; a negative number as its 64 bits."""
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
