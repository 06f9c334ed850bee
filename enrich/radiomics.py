"""Shape and first-order features of all segments of a label map, by pyradiomics' definitions.

This is our own implementation: loops in C, compiled ahead of time to WebAssembly
(``features/kernel.py``), and NumPy for the rest. On the realistic case of the benchmarks
(512 x 512 x 300, 104 structures) it takes about 0.54 CPU seconds; NumPy alone took 2.4, numba 0.75
without the diameters, after a pause to compile (``RADIOMICS.md`` has the table). Equality with
pyradiomics (1e-6 relative or 1e-9 absolute) is a test; ``pyradiomics_engine`` gives the same
features by the library itself, whose time grows with the square of the surface.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import highdicom as hd
import numpy as np
from numpy.typing import NDArray

from .. import Error
from ..models.codes import MORPHOLOGICALLY_ABNORMAL_STRUCTURE
from ..models.segmentation import Segment, Segmentation
from .features.feature_codes import ARBITRARY_UNITS, EXCESS_KURTOSIS_OFFSET, INVOLVEMENT, RADIOMICS, SHARE, Feature
from .features.first_order import countable, first_order, histograms, union
from .features.runs import find_runs
from .features.shape import Shape, shapes
from .measurement import FailedFeature, Measured, Measurement

SegmentFeatures = Mapping[str, float] | str
"""Values by feature name with class, or why the segment as a whole has none."""

LEAST_DIMENSIONS = 2
"""Directions that a region must extend in: pyradiomics measures no single voxel and no line of voxels."""


class GeometryDiffers(Error):
    """A label map that does not lie on the grid of the volume that is to be measured."""

    code = "GEOMETRY_DIFFERS"

    def __init__(self, volume_shape: tuple[int, ...], labelmap_shape: tuple[int, ...]) -> None:
        super().__init__(volume_shape, labelmap_shape)

    def __str__(self) -> str:
        """Both shapes; if they are equal, the affines differ."""
        return f"volume {self.args[0]} and label map {self.args[1]} do not share a geometry"


def measure(volume: hd.Volume, segmentation: Segmentation, modality: str = "CT") -> Measured:
    """All features of all segments that have a voxel, in the order of segment numbers.

    Parameters
    ----------
    volume : highdicom.Volume
        Array (k, j, i) of HU or another unit, integer or float.
    segmentation : Segmentation
        On the same grid. A voxel counts for its own segment and those that contain it.
    modality : str
        Of the image (0008,0060): values of CT are in HU, of any other in arbitrary units.

    Returns
    -------
    Measured
        For each segment present 28 published and four more features, in mm and HU; for
        findings, and for structures that contain findings, the percentage of the
        structure that they take up. A feature without a value is in ``failed``, as are all
        features of a segment of one voxel or one line, which pyradiomics does not measure.

    Raises
    ------
    GeometryDiffers
        If the label map is on another grid.
    NotFinite
        If a segmented voxel is NaN or infinite.
    """
    check_geometry(volume, segmentation)
    labels, box = _foreground(segmentation.labelmap.array)
    if not labels.size:
        return assemble(segmentation, {}, {})
    values = volume.array[box]
    runs = find_runs(labels, values, countable(values, labels))
    parts = histograms(values, labels, runs)
    k, j, i = (float(step) for step in volume.spacing)
    features: dict[int, SegmentFeatures] = {}
    for layer in _layers(segmentation.segments, set(parts)):
        mapping = _mapping(layer, len(segmentation.segments), set(parts), labels.dtype)
        regions = {segment.number: runs.region(_numbers(segment)) for segment in layer}
        for number, shape in shapes(labels, mapping, regions, (k, j, i)).items():
            whole = union(parts[n] for n in _numbers(segmentation.segments[number - 1]) if n in parts)
            features[number] = _of_segment(shape, first_order(whole, k * j * i))
    measured = assemble(segmentation, {number: part.size for number, part in parts.items()}, features)
    return measured if modality == "CT" else _in_arbitrary_units(measured)


def _of_segment(shape: Shape, of_values: Mapping[str, float]) -> SegmentFeatures:
    """Features of one segment, or why it has none."""
    if sum(side > 1 for side in shape.extent) < LEAST_DIMENSIONS:
        return f"a region of {' x '.join(map(str, shape.extent))} voxels has no radiomics features"
    named = {f"firstorder_{name}": value for name, value in of_values.items()}
    return named | {f"shape_{name}": value for name, value in shape.features.items()}


def check_geometry(volume: hd.Volume, segmentation: Segmentation) -> None:
    """Refuse a label map that is not on the volume's grid (to 1e-3 mm, as pyradiomics is set)."""
    if not volume.geometry_equal(segmentation.labelmap, tol=1e-3):
        raise GeometryDiffers(tuple(volume.array.shape), tuple(segmentation.labelmap.array.shape))


def assemble(
    segmentation: Segmentation, counts: Mapping[int, int], features: Mapping[int, SegmentFeatures]
) -> Measured:
    """Measurements from the values of an engine.

    Parameters
    ----------
    counts : mapping
        Label-map number to voxels, for the numbers present.
    features : mapping
        Segment number to values, for the segments present; kurtosis not yet excess kurtosis.
    """
    measurements: list[Measurement] = []
    failed: list[FailedFeature] = []
    shares = _involvement(segmentation.segments, counts)
    for number in sorted(features):
        values = features[number]
        for feature in RADIOMICS:
            if isinstance(values, str):
                failed.append(FailedFeature(number, feature.name, values))
            elif not math.isfinite(value := values[feature.name]):
                failed.append(FailedFeature(number, feature.name, f"{value} is not finite"))
            else:
                if feature.name == "firstorder_Kurtosis":
                    value -= EXCESS_KURTOSIS_OFFSET
                measurements.append(_measurement(number, feature, value))
        measurements += [_measurement(number, feature, value) for feature, value in shares.get(number, ())]
    return Measured(tuple(measurements), tuple(failed))


def _in_arbitrary_units(measured: Measured) -> Measured:
    values = tuple(replace(each, unit=ARBITRARY_UNITS.get(each.unit, each.unit)) for each in measured.measurements)
    return Measured(values, measured.failed)


def _measurement(number: int, feature: Feature, value: float) -> Measurement:
    return Measurement(number, feature.name, value, feature.concept, feature.unit)


def _numbers(segment: Segment) -> set[int]:
    """Label-map numbers whose voxels belong to a segment."""
    return {segment.number, *segment.contains}


def _foreground(
    array: NDArray[np.unsignedinteger],
) -> tuple[NDArray[np.unsignedinteger], tuple[slice, slice, slice]]:
    """The part of a label map that holds anything, and where it is."""
    lines: NDArray[np.bool_] = np.any(array, axis=2)
    columns: NDArray[np.bool_] = np.any(np.any(array, axis=0), axis=0)
    sides = [np.flatnonzero(used) for used in (lines.any(axis=1), lines.any(axis=0), columns)]
    k, j, i = (slice(int(used[0]), int(used[-1]) + 1) if used.size else slice(0, 0) for used in sides)
    return array[k, j, i], (k, j, i)


def _layers(segments: tuple[Segment, ...], numbers: set[int]) -> list[list[Segment]]:
    """Segments with a voxel, in as few groups without common voxels as they fit in one after the other."""
    layers: list[tuple[set[int], list[Segment]]] = []
    for segment in segments:
        own = _numbers(segment) & numbers
        if not own:
            continue
        for taken, members in layers:
            if not taken & own:
                taken.update(own)
                members.append(segment)
                break
        else:
            layers.append((own, [segment]))
    return [members for _, members in layers]


def _mapping(
    layer: list[Segment], count: int, numbers: set[int], dtype: np.dtype[np.unsignedinteger]
) -> NDArray[np.unsignedinteger]:
    """Which segment of a layer each label-map number belongs to; numbers without a voxel stay what they are."""
    mapping = np.arange(count + 1, dtype=dtype)
    mapping[list(numbers)] = 0
    for segment in layer:
        mapping[list(_numbers(segment))] = segment.number
    return mapping


def _involvement(segments: tuple[Segment, ...], counts: Mapping[int, int]) -> dict[int, list[tuple[Feature, float]]]:
    """Percentages of structures that their findings take up, for both, by segment number.

    A finding counts for the smallest structure that contains it, so not for the body when it is
    in a lung.
    """
    size = {segment.number: sum(counts.get(n, 0) for n in _numbers(segment)) for segment in segments}
    findings = {s.number: _numbers(s) for s in segments if s.category == MORPHOLOGICALLY_ABNORMAL_STRUCTURE}
    held: dict[int, set[int]] = {}
    shares: dict[int, list[tuple[Feature, float]]] = {}
    for finding, numbers in findings.items():
        containers = [s for s in segments if finding in s.contains and s.number not in findings]
        if containers:
            container = min(containers, key=lambda segment: (len(segment.contains), segment.number)).number
            held.setdefault(container, set()).update(numbers)
            if size[container] and size[finding]:
                shares.setdefault(finding, []).append((SHARE, 100 * size[finding] / size[container]))
    for container, numbers in held.items():
        if size[container]:
            involved = sum(counts.get(number, 0) for number in numbers)
            shares.setdefault(container, []).append((INVOLVEMENT, 100 * involved / size[container]))
    return shares
