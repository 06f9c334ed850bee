"""Annotations of one reader put together: one contour a file is one annotation of all contours."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from .mark import MarkedBox, MarkedLine, MarkedPoint, MarkedValue
from .packed_mask import PackedMask
from .reference import Annotation, Origin, Structure


def merged(annotations: Sequence[Annotation], origin: Origin) -> Annotation:
    """One annotation of all structures of several, in their order; of one reader, on one grid."""
    structures: list[Structure] = []
    masks: dict[int, PackedMask] = {}
    points: list[MarkedPoint] = []
    boxes: list[MarkedBox] = []
    lines: list[MarkedLine] = []
    values: list[MarkedValue] = []
    for each in annotations:
        shift = len(structures)
        structures += [replace(one, number=one.number + shift) for one in each.structures]
        masks |= {number + shift: mask for number, mask in each.masks.items()}
        points += [replace(one, structure=one.structure + shift) for one in each.points]
        boxes += [replace(one, structure=one.structure + shift) for one in each.boxes]
        lines += [replace(one, structure=one.structure + shift) for one in each.lines]
        values += [
            replace(one, structure=None if one.structure is None else one.structure + shift) for one in each.values
        ]
    return replace(
        annotations[0],
        origin=origin,
        structures=tuple(structures),
        masks=masks,
        points=tuple(points),
        boxes=tuple(boxes),
        lines=tuple(lines),
        values=tuple(values),
        labels=tuple(label for each in annotations for label in each.labels),
        remarks=tuple(remark for each in annotations for remark in each.remarks),
    )


def one_a_reader(annotations: Iterable[Annotation]) -> tuple[Annotation, ...]:
    """Annotations that come from files of one folder, format and reader as one."""
    groups: dict[tuple[str, str, str], list[Annotation]] = {}
    for each in annotations:
        folder = str(Path(each.origin.source).parent)
        groups.setdefault((folder, each.origin.format, each.reader), []).append(each)
    return tuple(
        group[0] if len(group) == 1 else merged(group, _origin(folder, group))
        for (folder, _, _), group in groups.items()
    )


def _origin(folder: str, group: list[Annotation]) -> Origin:
    """Origin of several files: their folder, and the digest of their digests."""
    digest = hashlib.sha256("".join(sorted(each.origin.sha256 for each in group)).encode()).hexdigest()
    return Origin(folder, group[0].origin.format, digest)
