"""MD.ai exports on the image's grid."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from voxfleet.benchmarks.references import mdai_json
from voxfleet.benchmarks.references.errors import (
    InvalidReference,
    NothingUsable,
    OtherSeries,
    OutsideImage,
    UnreadableReference,
)
from voxfleet.benchmarks.references.reference import Annotation, Reading
from voxfleet.enrich.series import Instance, SourceImage

Write = Callable[..., Path]
MODES = ("freeform", "polygon", "mask", "ellipse", "bbox", "location", "line", "angle")
SQUARE = [[1, 1], [5, 1], [5, 4], [1, 4]]
"""In pixels from the corner of the first: columns 1 to 4 and rows 1 to 3 are inside, 12 pixels."""


def on_slice(k: int, mode: str, data: Any, **changes: Any) -> dict[str, Any]:
    """Annotation of a mode on slice k of the image of the fixtures."""
    return {
        "id": f"A_{k}_{mode}",
        "labelId": f"L_{mode}",
        "StudyInstanceUID": "1.2.3.1",
        "SeriesInstanceUID": "1.2.3.2",
        "SOPInstanceUID": f"1.2.3.2.{k + 1}",
        "createdById": "U_7",
        "height": 20,
        "width": 24,
        "data": data,
        **changes,
    }


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write an export of annotations, with one label a mode and two global ones."""

    def export(*annotations: dict[str, Any]) -> Path:
        labels: list[dict[str, Any]] = [
            {"id": f"L_{mode}", "name": mode, "annotationMode": mode, "type": "LOCAL", "scope": "INSTANCE"}
            for mode in MODES
        ]
        for scope in ("STUDY", "INSTANCE"):
            label = {"id": f"G_{scope}", "name": f"global {scope}", "annotationMode": None, "scope": scope}
            labels.append({**label, "type": "GLOBAL"})
        group = {"id": "G_1", "name": "Reader 1", "labels": labels}
        path = tmp_path / "export.json"
        dataset = {"id": "D", "studies": [], "annotations": list(annotations)}
        path.write_text(json.dumps({"labelGroups": [group], "datasets": [dataset]}))
        return path

    return export


def read(path: Path, image: SourceImage) -> Annotation:
    """Its only annotation."""
    (annotation,) = mdai_json.read(path, image, Reading())
    return annotation


def test_sarcoma(sarcoma: Path, sarcoma_ct: SourceImage) -> None:
    """The tumour has 17,090 voxels, and the study its label without a drawing."""
    path = sarcoma / "mdai_annotations_derived.json"
    annotation = read(path, sarcoma_ct)
    assert annotation.reader == "Reader 1"
    assert annotation.masks[1].voxels == 17090
    assert [(label.name, label.scope, label.reader) for label in annotation.labels] == [
        ("QA- adequate", "STUDY", "U_1")
    ]
    assert mdai_json.read_labels(path) == annotation.labels


@pytest.mark.parametrize("mode", ["freeform", "polygon"])
def test_outlines(write: Write, image: SourceImage, mode: str) -> None:
    """Vertices count from the corner of the first pixel: 4 x 3 pixels from (row 1, column 1)."""
    mask = read(write(on_slice(2, mode, {"vertices": SQUARE})), image).masks[1]
    assert (mask.voxels, mask.box) == (12, (slice(2, 3), slice(1, 4), slice(1, 5)))


def test_mask(write: Write, image: SourceImage) -> None:
    """A mask is its foreground less its background: 12 less 1."""
    data = {"foreground": [SQUARE], "background": [[[2, 2], [3, 2], [3, 3], [2, 3]]]}
    assert read(write(on_slice(2, "mask", data)), image).masks[1].voxels == 11


def test_ellipse(write: Write, image: SourceImage) -> None:
    """A circle of radius 2 round a pixel's centre holds 13 centres."""
    data = {"cx": 8.5, "cy": 6.5, "rx": 2, "ry": 2}
    assert read(write(on_slice(2, "ellipse", data)), image).masks[1].voxels == 13


def test_box_point_and_line(write: Write, image: SourceImage) -> None:
    """Marks without area keep their place, in voxels and in mm."""
    annotation = read(
        write(
            on_slice(2, "bbox", {"x": 1, "y": 2, "width": 5, "height": 3}),
            on_slice(3, "location", {"x": 4.5, "y": 6.5}),
            on_slice(0, "line", {"vertices": [[0.5, 0.5], [3.5, 0.5]]}),
        ),
        image,
    )
    assert (annotation.boxes[0].low, annotation.boxes[0].high) == ((1.5, 1.5, 0.5), (2.5, 4.5, 5.5))
    assert annotation.points[0].position_mm == (4, 6, 6)
    assert annotation.lines[0].points_mm == ((0, 0, 0), (3, 0, 0))
    assert not annotation.masks


def test_slices_of_one_label_are_one_structure(write: Write, image: SourceImage) -> None:
    """Drawings of one label are united, on one slice and over slices; a copy counts once and is told."""
    one, other = on_slice(2, "polygon", {"vertices": SQUARE}), on_slice(3, "polygon", {"vertices": SQUARE})
    beside = on_slice(2, "polygon", {"vertices": [[4, 1], [8, 1], [8, 4], [4, 4]]})
    annotation = read(write(one, other, beside, {**one, "id": "copy"}), image)
    assert annotation.masks[1].voxels == 12 + 12 + 9
    assert [remark.code for remark in annotation.remarks] == ["REPEATED_CONTOUR"]


def test_no_data(write: Write, image: SourceImage) -> None:
    """A drawing of nothing is told of, and is no label of the study."""
    annotation = read(write(on_slice(2, "polygon", None), on_slice(2, "freeform", {"vertices": SQUARE})), image)
    assert [(remark.code, remark.structure) for remark in annotation.remarks] == [("NO_DATA", "polygon")]
    assert not annotation.labels


def test_unknown_mode(write: Write, image: SourceImage) -> None:
    """A mode that has no place on the grid is told of."""
    annotation = read(write(on_slice(2, "angle", {"a": 1}), on_slice(2, "freeform", {"vertices": SQUARE})), image)
    assert [remark.code for remark in annotation.remarks] == ["UNKNOWN_DRAWING"]


def test_global_labels(write: Write, image: SourceImage) -> None:
    """Labels are of the study, or of an instance; those of other studies are theirs."""
    annotations = [
        {**on_slice(0, "x", None), "labelId": "G_STUDY"},
        {**on_slice(1, "x", None), "labelId": "G_INSTANCE"},
        {**on_slice(1, "x", None), "labelId": "G_STUDY", "StudyInstanceUID": "1.9"},
    ]
    path = write(*annotations)
    assert [(label.scope, label.sop_instance_uid) for label in read(path, image).labels] == [
        ("STUDY", ""),
        ("INSTANCE", "1.2.3.2.2"),
    ]
    assert len(mdai_json.read_labels(path)) == 3


def test_slice_that_is_there_twice(write: Write, image: SourceImage, tmp_path: Path) -> None:
    """A drawing on a copy of a slice that reading passed over lies on the slice that was kept."""
    twin = copy.deepcopy(image.headers[2])
    twin.SOPInstanceUID, twin.file_meta = "1.2.3.2.99", FileMetaDataset()
    twin.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    twin.save_as(tmp_path / "twin.dcm", enforce_file_format=True)
    instance = Instance(str(twin.SOPClassUID), "1.2.3.2.99", "", 0, tmp_path / "twin.dcm")
    twice = replace(image, series=replace(image.series, instances=(*image.series.instances, instance)))
    path = write(on_slice(2, "polygon", {"vertices": SQUARE}, SOPInstanceUID="1.2.3.2.99"))
    assert read(path, twice).masks[1].box[0] == slice(2, 3)


def test_other_series_of_the_study(write: Write, image: SourceImage) -> None:
    """What is drawn on another series of the study is not on this one."""
    other = on_slice(2, "polygon", {"vertices": SQUARE}, SeriesInstanceUID="1.9", SOPInstanceUID="1.9.1")
    assert mdai_json.read(write(other), image, Reading()) == ()


@pytest.mark.parametrize(
    ("annotation", "error"),
    [
        (on_slice(2, "polygon", {"vertices": SQUARE}, StudyInstanceUID="1.9", SeriesInstanceUID="1.8"), OtherSeries),
        (on_slice(2, "polygon", {"vertices": [[1, 1], [30, 1], [30, 4]]}), OutsideImage),
        (on_slice(2, "location", {"x": 25, "y": 3}), OutsideImage),
        (on_slice(2, "bbox", {"x": 20, "y": 3, "width": 9, "height": 2}), OutsideImage),
        (on_slice(77, "polygon", {"vertices": SQUARE}), OutsideImage),
        (on_slice(2, "polygon", {"vertices": SQUARE}, height=512), OutsideImage),
        (on_slice(2, "polygon", {"vertices": [[0, 0], [9, 9], [9, 0], [0, 9]]}), NothingUsable),
    ],
)
def test_bad_input(write: Write, image: SourceImage, annotation: dict[str, Any], error: type[Exception]) -> None:
    """What is of another study, beyond the image or crosses itself is refused."""
    with pytest.raises(error) as caught:
        mdai_json.read(write(annotation), image, Reading())
    assert type(caught.value) is error


def test_zero_area(write: Write, image: SourceImage) -> None:
    """A drawing of two points is told of, and leaves the label's other drawings."""
    stray = on_slice(1, "polygon", {"vertices": [[1, 1], [2, 2]]})
    annotation = read(write(stray, on_slice(2, "polygon", {"vertices": SQUARE})), image)
    assert annotation.masks[1].voxels == 12
    assert [remark.code for remark in annotation.remarks] == ["ZERO_AREA_CONTOUR"]


def test_any_key_may_lack(write: Write, image: SourceImage) -> None:
    """Whatever key of an annotation is taken away, the export is read or refused with an error of ours."""
    whole = on_slice(2, "polygon", {"vertices": SQUARE})
    for key in whole:
        path = write({name: value for name, value in whole.items() if name != key}, on_slice(3, "line", None))
        with contextlib.suppress(InvalidReference):
            mdai_json.read(path, image, Reading())
        path.unlink()


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"labelGroups": [], "datasets": [{"annotations": [{}]}]}'])
def test_damaged(tmp_path: Path, text: str) -> None:
    """Another JSON is told so."""
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(UnreadableReference):
        mdai_json.subject(path)


def test_recognised(sarcoma: Path, tmp_path: Path) -> None:
    """An export is known by its first bytes, and no other JSON is."""
    assert mdai_json.recognises(sarcoma / "mdai_annotations_derived.json")
    (tmp_path / "labels.json").write_text(json.dumps([{"number": 1}]))
    assert not mdai_json.recognises(tmp_path / "labels.json")
    assert np.all([not mdai_json.recognises(tmp_path / name) for name in ("none.json", "x.txt")])
