"""The HTML page of one series: what was read, found, measured, written, and what it took."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import highdicom as hd
import numpy as np

from ..enrich.measurement import Measured, Measurement
from ..enrich.prov_json import without_secrets
from ..enrich.provenance import Activity
from ..models.segmentation import Segment, Segmentation
from .page import BarPart, Link, bar, render
from .pictures import Picture

VOLUME_MM3 = "shape_VoxelVolume"
MEAN = "firstorder_Mean"
MEDIAN = "firstorder_Median"
INVOLVED_PERCENT = "involvement_Percent"
"""Of a structure that contains findings."""
SHARE_PERCENT = "involvement_PercentOfStructure"
"""Of a finding, in the structure that contains it."""

MM3_PER_ML = 1000.0

READABLE_UNITS = {
    "1": "",
    "[hnsf'U]": "HU",
    "[hnsf'U]2": "HU²",
    "[hnsf'U]2.mm3": "HU²·mm³",
    "mm2": "mm²",
    "mm3": "mm³",
    "/mm": "mm⁻¹",
}
"""UCUM codes as people write them; others are shown as they are."""

OBJECT_NAMES = {
    "1.2.840.10008.5.1.4.1.1.66.4": "Segmentation (SEG)",
    "1.2.840.10008.5.1.4.1.1.66.7": "Label Map Segmentation (SEG)",
    "1.2.840.10008.5.1.4.1.1.88.22": "Enhanced SR",
    "1.2.840.10008.5.1.4.1.1.88.33": "Comprehensive SR",
    "1.2.840.10008.5.1.4.1.1.88.34": "Comprehensive 3D SR",
}


@dataclass(frozen=True, slots=True, eq=False)
class SeriesPage:
    """All that the page of one series says.

    Attributes
    ----------
    activity : Activity
        With source, model, stages, objects and machine; its cost may be absent.
    volume : highdicom.Volume
        That was segmented; only its geometry is told.
    pictures : tuple of Picture
        Of `pictures.pictures`; may be empty.
    files : tuple of Link
        Beside the page: tables, provenance, NIfTI.
    """

    activity: Activity
    volume: hd.Volume
    segmentation: Segmentation
    measured: Measured
    pictures: tuple[Picture, ...] = ()
    files: tuple[Link, ...] = ()


@dataclass(frozen=True, slots=True)
class _SegmentRow:
    """One line of the table of segments; what was not measured is None."""

    segment: Segment
    color: str
    present: bool
    voxels: int
    ml: float
    mean: float | None
    median: float | None
    involved_percent: float | None
    share_percent: float | None


@dataclass(frozen=True, slots=True)
class _FeatureRow:
    """One feature over all segments that were measured."""

    name: str
    ibsi: str
    unit: str
    values: tuple[float | None, ...]


def series_report(page: SeriesPage) -> str:
    """One self-contained HTML document; pictures are inside it, nothing is fetched.

    No attribute of the patient is asked for, so none can appear.
    """
    rows = _segment_rows(page)
    measured_segments = sorted({each.segment_number for each in page.measured.measurements})
    return render(
        "series.html",
        page=page,
        activity=page.activity,
        card=page.activity.card,
        source=without_secrets(page.activity.source),
        object_names=OBJECT_NAMES,
        geometry=_geometry(page.volume),
        rows=rows,
        key_rows=[row for row in rows if row.involved_percent is not None],
        intensity_unit=_intensity_unit(page.measured),
        legend=_legend(page, rows),
        feature_segments=[page.segmentation.segments[number - 1] for number in measured_segments],
        features=_feature_rows(page.measured, measured_segments),
        stages=page.activity.stages,
        stage_bar=_stage_bar(page.activity),
        wall_s=sum(stage.wall_s for stage in page.activity.stages),
    )


def _segment_rows(page: SeriesPage) -> list[_SegmentRow]:
    values: defaultdict[int, dict[str, float]] = defaultdict(dict)
    for each in page.measured.measurements:
        values[each.segment_number][each.column] = each.value
    segments = page.segmentation.segments
    array = page.segmentation.labelmap.array
    counts = np.zeros(len(segments) + 1, dtype=np.int64)
    for plane in array:
        counts += np.bincount(plane.ravel(), minlength=len(counts))
    voxel_ml = float(page.volume.voxel_volume) / MM3_PER_ML
    return [_segment_row(segment, values[segment.number], counts.tolist(), voxel_ml) for segment in segments]


def _segment_row(segment: Segment, values: Mapping[str, float], counts: list[int], voxel_ml: float) -> _SegmentRow:
    voxels = sum(counts[number] for number in {segment.number, *segment.contains})
    measured_mm3 = values.get(VOLUME_MM3)
    return _SegmentRow(
        segment=segment,
        color="#{:02x}{:02x}{:02x}".format(*segment.color),
        present=voxels > 0,
        voxels=voxels,
        ml=voxels * voxel_ml if measured_mm3 is None else measured_mm3 / MM3_PER_ML,
        mean=values.get(MEAN),
        median=values.get(MEDIAN),
        involved_percent=values.get(INVOLVED_PERCENT),
        share_percent=values.get(SHARE_PERCENT),
    )


def _legend(page: SeriesPage, rows: list[_SegmentRow]) -> list[_SegmentRow]:
    """Segments to be seen in a picture."""
    seen = {number for picture in page.pictures for number in picture.segments}
    return [row for row in rows if row.segment.number in seen]


def _intensity_unit(measured: Measured) -> str:
    units = {each.unit.value for each in measured.measurements if each.column == MEAN}
    return " ".join(sorted(_readable(unit) for unit in units))


def _readable(ucum: str) -> str:
    """A UCUM code as people write it."""
    return READABLE_UNITS.get(ucum, ucum)


def _feature_rows(measured: Measured, segments: list[int]) -> list[_FeatureRow]:
    by_feature: dict[str, dict[int, Measurement]] = {}
    for each in measured.measurements:
        by_feature.setdefault(each.column, {})[each.segment_number] = each
    rows = []
    for name, found in by_feature.items():
        first = next(iter(found.values()))
        values = tuple(found[number].value if number in found else None for number in segments)
        ibsi = first.concept.value if first.concept.scheme_designator == "IBSI" else ""
        rows.append(_FeatureRow(name, ibsi, _readable(first.unit.value), values))
    return rows


def _geometry(volume: hd.Volume) -> list[tuple[str, str]]:
    slices, rows, columns = volume.spatial_shape
    between, down, across = (float(step) for step in volume.spacing)
    letters = "".join(str(each.value) for each in volume.get_closest_patient_orientation())
    return [
        ("Matrix", f"{columns} × {rows}, {slices} slices"),
        ("Voxel", f"{across:.4g} × {down:.4g} × {between:.4g} mm"),
        ("Extent", f"{across * columns:.0f} × {down * rows:.0f} × {between * slices:.0f} mm"),
        ("Axes to", f"{letters} (slices, rows, columns)"),
    ]


def _stage_bar(activity: Activity) -> tuple[BarPart, ...]:
    seconds: defaultdict[str, float] = defaultdict(float)
    for stage in activity.stages:
        seconds[stage.stage] += stage.wall_s
    return bar(seconds.items())
