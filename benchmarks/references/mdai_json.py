"""MD.ai JSON exports, as RICORD's: annotations in pixels, matched by SOP Instance UID, and global labels.

Vertices are (x, y) in pixels from the top-left corner of the top-left pixel, whose centre is (0.5, 0.5).
Annotations of one label on one slice are taken together; a copy of an annotation counts once. Where a
series holds a slice twice, what was drawn on either is on that slice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...enrich.digest import file_sha256
from ...enrich.series import SourceImage
from .contours import ContourFault, SelfCrossingContour, ZeroAreaContour, filled, stacked
from .dicom_file import readable
from .errors import OutsideImage, UnreadableReference
from .mark import GlobalLabel, MarkedBox, MarkedLine, MarkedPoint
from .packed_mask import PackedMask, without
from .placing import InstancePlaces, check_subject
from .polygon import Turns, ellipse
from .reference import Annotation, Origin, Reading, Remark, Structure, Subject, check_usable

NAME = "MD.ai JSON"
_HEAD_BYTES = 1 << 16
_PIXEL_CENTRE = 0.5
_LINE = 2


def recognises(path: Path) -> bool:
    """Whether a file is an export of MD.ai: JSON that begins with an object and names its label groups."""
    if path.suffix != ".json":
        return False
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return False
    return head.lstrip()[:1] == b"{" and (b'"labelGroups"' in head or b'"datasets"' in head)


def subject(path: Path) -> Subject:
    """Studies and series of all annotations."""
    export = _export(path)
    return Subject(
        study_instance_uids=frozenset(each["StudyInstanceUID"] for each in export.annotations),
        series_instance_uids=frozenset(each.get("SeriesInstanceUID") or "" for each in export.annotations) - {""},
        sop_instance_uids=frozenset(each.get("SOPInstanceUID") or "" for each in export.annotations) - {""},
    )


def read(path: Path, image: SourceImage, reading: Reading) -> tuple[Annotation, ...]:
    """What is drawn on the image's instances, and the labels of its study, one annotation a label group.

    Raises
    ------
    OtherSeries, OutsideImage, NothingUsable, UnreadableReference
        If nothing is of the image's study, reaches beyond its slices or can be used.
    """
    export = _export(path)
    study = image.series.study_instance_uid
    if not any(each["StudyInstanceUID"] == study for each in export.annotations):
        check_subject(str(path), subject(path), image)
    places = InstancePlaces(str(path), image)
    origin = Origin(str(path), NAME, file_sha256(path))
    found = []
    with readable(path):
        for group in export.groups:
            mine = [each for each in export.annotations if each.get("labelId") in group.labels]
            annotation = _annotation(origin, group, mine, places, reading)
            if annotation.structures or annotation.labels or annotation.remarks:
                found.append(annotation)
    return tuple(found)


def read_labels(path: Path) -> tuple[GlobalLabel, ...]:
    """All labels that are of a study, series or instance as a whole, radiographs' included."""
    export = _export(path)
    by_id = {key: (group, label) for group in export.groups for key, label in group.labels.items()}
    mine = (each for each in export.annotations if each.get("labelId") in by_id)
    with readable(path):
        found = [_global_label(*by_id[each["labelId"]], each) for each in mine]
    return tuple(label for label in found if label is not None)


@dataclass(frozen=True, slots=True, eq=False)
class _Group:
    name: str
    labels: dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True, eq=False)
class _Export:
    groups: tuple[_Group, ...]
    annotations: tuple[dict[str, Any], ...]


def _export(path: Path) -> _Export:
    try:
        return _parsed(path, path.stat().st_mtime_ns)
    except OSError as exc:
        raise UnreadableReference(str(path), f"cannot be read: {exc.strerror}") from exc


@lru_cache(maxsize=2)
def _parsed(path: Path, mtime_ns: int) -> _Export:
    """Label groups and annotations; a collection's file is asked for again with each series."""
    del mtime_ns
    try:
        top = json.loads(path.read_text(encoding="utf-8"))
        groups = tuple(
            _Group(str(each["name"]), {str(label["id"]): label for label in each["labels"]})
            for each in top["labelGroups"]
        )
        annotations = [each for dataset in top["datasets"] for each in dataset["annotations"]]
        if not all(isinstance(each["StudyInstanceUID"], str) for each in annotations):
            raise TypeError("StudyInstanceUID")
    except (KeyError, TypeError, ValueError) as exc:
        raise UnreadableReference(str(path), f"is no export of MD.ai: {type(exc).__name__} {exc}") from exc
    return _Export(groups, tuple(annotations))


def _global_label(group: _Group, label: dict[str, Any], annotation: dict[str, Any]) -> GlobalLabel | None:
    """Label of an annotation without drawing; None for one that is or should be drawn."""
    if label.get("annotationMode") and label.get("type") != "GLOBAL":
        return None
    scope = str(label.get("scope") or "STUDY")
    return GlobalLabel(
        name=str(label["name"]),
        scope=scope,
        study_instance_uid=annotation["StudyInstanceUID"],
        series_instance_uid=(annotation.get("SeriesInstanceUID") or "") if scope != "STUDY" else "",
        sop_instance_uid=(annotation.get("SOPInstanceUID") or "") if scope == "INSTANCE" else "",
        reader=str(annotation.get("createdById") or ""),
        group=group.name,
    )


@dataclass(slots=True, eq=False)
class _Drawn:
    """What is drawn under one label."""

    planes: list[tuple[int, Turns]] = field(default_factory=list)
    background: list[tuple[int, Turns]] = field(default_factory=list)
    points: list[MarkedPoint] = field(default_factory=list)
    boxes: list[MarkedBox] = field(default_factory=list)
    lines: list[MarkedLine] = field(default_factory=list)
    fault: ContourFault | None = None


def _annotation(
    origin: Origin, group: _Group, items: list[dict[str, Any]], places: InstancePlaces, reading: Reading
) -> Annotation:
    image = places.image
    labels, remarks = [], []
    drawn: dict[str, _Drawn] = {}
    seen: set[tuple[str, str, str]] = set()
    for item in items:
        label = group.labels[item["labelId"]]
        told = _global_label(group, label, item)
        if told is not None:
            if _concerns(told, image):
                labels.append(told)
            continue
        if not places.holds(item.get("SOPInstanceUID") or "", item.get("SeriesInstanceUID") or ""):
            continue
        name = str(label["name"])
        key = (item["labelId"], item["SOPInstanceUID"], json.dumps(item.get("data"), sort_keys=True))
        if item.get("data") is None:
            remarks.append(Remark("NO_DATA", name, f"annotation {item.get('id')} has no drawing (data: null)"))
        elif key in seen:
            remarks.append(Remark("REPEATED_CONTOUR", name, f"annotation {item.get('id')} is there twice"))
        else:
            seen.add(key)
            number = list(drawn).index(name) + 1 if name in drawn else len(drawn) + 1
            remark = _draw(drawn.setdefault(name, _Drawn()), number, label, item, places)
            remarks += [remark] if remark else []
    return _put_together(origin, group, drawn, tuple(labels), remarks, places, reading)


def _put_together(  # noqa: PLR0913, PLR0917 - all that an annotation is made of
    origin: Origin,
    group: _Group,
    drawn: dict[str, _Drawn],
    labels: tuple[GlobalLabel, ...],
    remarks: list[Remark],
    places: InstancePlaces,
    reading: Reading,
) -> Annotation:
    shape = places.image.volume.spatial_shape
    structures: list[Structure] = []
    masks: dict[int, PackedMask] = {}
    for number, (name, each) in enumerate(drawn.items(), start=1):
        structures.append(reading.structure(number, name))
        if each.fault is not None:
            remarks.append(each.fault.remark(name))
        elif each.planes:
            mask = stacked(origin.source, name, each.planes, shape)
            away = stacked(origin.source, name, each.background, shape)
            masks[number] = mask if away.empty else without(mask, [away])
    marks = list(drawn.values())
    marked = len(masks) + len(labels) + sum(len(each.points) + len(each.boxes) + len(each.lines) for each in marks)
    check_usable(origin.source, tuple(remarks), marked)
    return Annotation(
        places.image.series.series_instance_uid,
        group.name,
        origin,
        places.geometry,
        tuple(structures),
        masks,
        points=tuple(point for each in marks for point in each.points),
        boxes=tuple(box for each in marks for box in each.boxes),
        lines=tuple(line for each in marks for line in each.lines),
        labels=labels,
        remarks=tuple(remarks),
    )


def _concerns(label: GlobalLabel, image: SourceImage) -> bool:
    series = image.series
    if label.study_instance_uid != series.study_instance_uid:
        return False
    return label.series_instance_uid in ("", series.series_instance_uid)


def _draw(
    drawn: _Drawn, number: int, label: dict[str, Any], item: dict[str, Any], places: InstancePlaces
) -> Remark | None:
    """Add one annotation to what is drawn under its label; tell what it could not add."""
    name, where = str(label["name"]), f"annotation {item.get('id')}"
    rows, columns = places.image.volume.spatial_shape[1:]
    if item.get("height") is not None and (item["height"], item["width"]) != (rows, columns):
        drawn_on = f"{item['height']} x {item['width']}"
        raise OutsideImage(places.source, f"{where} was drawn on {drawn_on} pixels, the image has {rows} x {columns}")
    k = places.slice_of(item["SOPInstanceUID"])
    mode = str(label.get("annotationMode") or "")
    try:
        _add(drawn, number, mode, item["data"], k, places)
    except ZeroAreaContour as fault:
        return Remark(fault.code, name, f"{where}: {fault}")
    except SelfCrossingContour as fault:
        drawn.fault = SelfCrossingContour(where, str(fault.args[1]))
    except (KeyError, TypeError, ValueError):
        return Remark("UNKNOWN_DRAWING", name, f"{where} of mode {mode or 'none'} has none of the data of that mode")
    return None


def _add(drawn: _Drawn, number: int, mode: str, data: dict[str, Any], k: int, places: InstancePlaces) -> None:
    if mode in ("freeform", "polygon"):
        drawn.planes.append((k, filled("the outline", _vertices(data["vertices"]))))
    elif mode == "mask":
        drawn.planes += _polygons(k, data["foreground"])
        drawn.background += _polygons(k, data.get("background") or [])
    elif mode == "ellipse":
        centre = (float(data["cy"]) - _PIXEL_CENTRE, float(data["cx"]) - _PIXEL_CENTRE)
        drawn.planes.append((k, ellipse(centre, (float(data["ry"]), 0.0), (0.0, float(data["rx"])))))
    elif mode == "bbox":
        low = (k - 0.5, float(data["y"]) - _PIXEL_CENTRE, float(data["x"]) - _PIXEL_CENTRE)
        size = (1.0, float(data["height"]), float(data["width"]))
        high = (low[0] + size[0], low[1] + size[1], low[2] + size[2])
        places.check_inside([low, high])
        drawn.boxes.append(MarkedBox(number, low, high))
    elif mode == "location":
        drawn.points.append(MarkedPoint(number, places.positions(k, _vertices([(data["x"], data["y"])]))[0]))
    elif mode == "line":
        if len(data["vertices"]) < _LINE:
            raise ValueError(mode)
        drawn.lines.append(MarkedLine(number, tuple(places.positions(k, _vertices(data["vertices"])))))
    else:
        raise ValueError(mode)


def _polygons(k: int, polygons: list[Any]) -> Iterator[tuple[int, Turns]]:
    for polygon in polygons:
        yield k, filled("a part of the mask", _vertices(polygon["vertices"] if isinstance(polygon, dict) else polygon))


def _vertices(points: Any) -> NDArray[np.float64]:
    """(x, y) from the corner of the first pixel as (row, column) from its centre."""
    found = np.array(points, float)
    if found.ndim != _LINE or found.shape[1] != _LINE:
        raise ValueError("vertices are pairs of numbers")
    return found[:, ::-1] - _PIXEL_CENTRE
