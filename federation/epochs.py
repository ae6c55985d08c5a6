"""The numbers under which the lives of one node speak: each higher than those before it, no two the same. Pure.

A life that knows of an earlier one does not simply take the next number. Two lives may know the same: two that lost
their disks, or began from one old copy of a disk. Both would come to one epoch, and peers would take the second for a
clone. So each goes beyond what it knows by a part of its own, drawn with its instance.
"""

from __future__ import annotations

PART_BYTES = 2
"""Of the instance. Up to 66 s as epochs count: a node that restarts all day with its clock behind stays near it."""


def first(saved: int, wall_ms: int, instance: bytes) -> int:
    """Of a life whose disk holds the epoch `saved` (0: none): the clock, or beyond what is saved if that is behind."""
    return wall_ms if wall_ms > saved else beyond(saved, instance)


def beyond(known: int, instance: bytes) -> int:
    """For the life that drew `instance`, and finds that an earlier one went as far as `known`."""
    return known + 1 + int.from_bytes(instance[:PART_BYTES])
