"""All features that a parameter file asks for: shape and first order by our own code, the rest by pyradiomics.

Shape and first order of the original image are ours where the settings leave their definition
as it is published; they equal pyradiomics' to 1e-6. Everything else is computed by pyradiomics
itself, on the box of each segment with the margin that a filter needs, in parallel processes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import highdicom as hd
import numpy as np
import psutil
from numpy.typing import NDArray
from scipy import ndimage

from ...models.segmentation import Segment, Segmentation
from ..measurement import ORIGINAL, FailedFeature, Measured, Measurement
from ..radiomics import check_geometry, measure
from .derived_images import Box, ImageType, crop, extreme_of, image_types, needs_whole_volume, with_extreme
from .feature_codes import ARBITRARY_UNITS, EXCESS_KURTOSIS_OFFSET, RADIOMICS
from .feature_parameters import BIN_WIDTH, FeatureParameters, check_version
from .feature_pool import Answer, Job, compute_all
from .feature_worker import Task
from .texture_codes import FEATURES

SHAPES = ("shape", "shape2D")
"""Classes that hang on the mask alone, so that no filter changes them."""
PUBLISHED_SETTINGS: Mapping[str, Any] = {
    "minimumROIDimensions": 2,
    "minimumROISize": None,
    "normalize": False,
    "resampledPixelSpacing": None,
    "resegmentRange": None,
}
"""What decides what is measured, with pyradiomics' defaults: other settings than these are left to pyradiomics."""
PUBLISHED_INTENSITIES: Mapping[str, Any] = {"binWidth": BIN_WIDTH, "binCount": None, "voxelArrayShift": 0}
"""Those that decide first-order features beyond that."""
BYTES_PER_VOXEL = {"Original": 80, "Wavelet": 200}
"""Memory that pyradiomics takes for each voxel of a box: masks and matrices of 8 bytes, and eight sub-bands at once."""
ROOM_SHARE = 0.5
"""Share of the memory that is free now that boxes in work may take."""
NO_VALUE = "pyradiomics gives no value: the segment or the volume is too small for it"

Wanted = dict[str, tuple[str, ...]]
"""Features by class."""


def measure_features(
    volume: hd.Volume,
    segmentation: Segmentation,
    parameters: FeatureParameters,
    modality: str = "CT",
    cores: int | None = None,
) -> Measured:
    """All features that the parameters ask for, of all segments that have a voxel.

    Parameters
    ----------
    volume : highdicom.Volume
        Array (k, j, i) of HU or another unit.
    segmentation : Segmentation
        On the same grid.
    modality : str
        Of the image; filtered images and other modalities than CT are in arbitrary units.
    cores : int or None
        Processes at most; None for all cores.

    Returns
    -------
    Measured
        In the order of segments; shares of findings as of `radiomics.measure`. Features
        without a value are in ``failed``.

    Raises
    ------
    GeometryDiffers, NotFinite
        As of `radiomics.measure`.
    RadiomicsMissing, OtherPyradiomics
        If this node has not the pyradiomics that the parameters were made for.
    FeatureWorkerDied
        If a process that computes features is killed.
    """
    check_version(parameters)
    check_geometry(volume, segmentation)
    plan = plan_of(parameters)
    ours = measure(volume, segmentation, modality)
    kept = {name for names in plan.ours.values() for name in names}
    measurements = [m for m in ours.measurements if m.name in kept or m.name.startswith("involvement_")]
    failed = [f for f in ours.failed if f.name in kept]
    boxes = _boxes(segmentation)
    source = _source(volume.array, parameters)
    cutter = _Cutter(source, segmentation, volume.spacing, parameters)
    order = [(number, part) for number in boxes for part in plan.theirs]
    jobs = [cutter.job(segmentation.segments[number - 1], boxes[number], part) for number, part in order]
    usable = len(os.sched_getaffinity(0))
    workers = min(cores or usable, usable)
    room = int(ROOM_SHARE * psutil.virtual_memory().available * workers / usable)
    for (number, part), answer in zip(order, compute_all(jobs, workers, room) if jobs else [], strict=True):
        for each in _named(number, part, answer, in_hounsfield=modality == "CT" and not _normalized(parameters)):
            (failed if isinstance(each, FailedFeature) else measurements).append(each)  # type: ignore[arg-type]
    key = {number: place for place, number in enumerate(sorted({m.segment_number for m in measurements}))}
    measurements.sort(key=lambda each: key[each.segment_number])
    return Measured(tuple(measurements), tuple(sorted(failed, key=lambda each: each.segment_number)))


@dataclass(frozen=True, slots=True)
class Part:
    """What one call of pyradiomics gives for a segment: classes of features on one image type."""

    image: ImageType
    wanted: Wanted

    def names(self) -> Iterator[tuple[str, str]]:
        """Filter, and feature with class, of each value."""
        for family, features in self.wanted.items():
            for image_filter in (ORIGINAL,) if family in SHAPES else self.image.filters:
                yield from ((image_filter, f"{family}_{feature}") for feature in features)


@dataclass(frozen=True, slots=True)
class FeaturePlan:
    """Who computes what.

    Attributes
    ----------
    ours : mapping
        Class to feature names with class, of the original image, from `radiomics.measure`.
    theirs : tuple of Part
        Left to pyradiomics.
    """

    ours: Wanted
    theirs: tuple[Part, ...]


def plan_of(parameters: FeatureParameters) -> FeaturePlan:
    """Which features are ours, and which pyradiomics computes."""
    wanted = _wanted(parameters)
    types = image_types(parameters)
    original = next((each for each in types if each.name == "Original"), None)
    ours: Wanted = {}
    settings = parameters.mappings["setting"]
    if _as_published(settings, PUBLISHED_SETTINGS):
        published = {feature.name for feature in RADIOMICS}
        families = ["shape"]
        if original is not None and _as_published(original.settings, PUBLISHED_INTENSITIES):
            families.append("firstorder")
        for family in families:
            ours[family] = tuple(n for f in wanted.get(family, ()) if (n := f"{family}_{f}") in published)
    theirs = []
    shapes = _without({family: wanted[family] for family in SHAPES if family in wanted}, ours)
    textures = {family: names for family, names in wanted.items() if family not in SHAPES}
    for each in types:
        if each is original:
            rest = _without(textures, ours)
            theirs += [Part(each, {**shapes, **rest})] if shapes or rest else []
        else:
            theirs.append(Part(each, textures))
    if original is None and shapes:
        theirs.insert(0, Part(ImageType("Original", {}, settings), shapes))
    return FeaturePlan(ours, tuple(part for part in theirs if part.wanted))


def _wanted(parameters: FeatureParameters) -> Wanted:
    """Features by class; those that pyradiomics calls deprecated only where the file names them."""
    from radiomics import getFeatureClasses

    classes = getFeatureClasses()
    asked = parameters.mappings["featureClass"] or dict.fromkeys(classes)
    if not parameters.mappings["featureClass"] and not parameters.mappings["setting"].get("force2D"):
        asked.pop("shape2D")
    wanted = {}
    for family, names in asked.items():
        known = classes[family].getFeatureNames()
        wanted[family] = tuple(names or (name for name, deprecated in known.items() if not deprecated))
    return wanted


def _as_published(settings: Mapping[str, Any], published: Mapping[str, Any]) -> bool:
    return all(settings.get(name, value) == value for name, value in published.items())


def _normalized(parameters: FeatureParameters) -> bool:
    return bool(parameters.mappings["setting"].get("normalize"))


def _without(wanted: Wanted, ours: Wanted) -> Wanted:
    left = {
        family: tuple(n for n in names if f"{family}_{n}" not in ours.get(family, ()))
        for family, names in wanted.items()
    }
    return {family: names for family, names in left.items() if names}


def _boxes(segmentation: Segmentation) -> dict[int, Box]:
    """The box of each segment that has a voxel, by number; those of contained segments included."""
    found = ndimage.find_objects(segmentation.labelmap.array, max_label=len(segmentation.segments))
    boxes = {}
    for segment in segmentation.segments:
        parts = [box for n in (segment.number, *segment.contains) if (box := found[n - 1]) is not None]
        if parts:
            sides = [[part[axis] for part in parts] for axis in range(3)]
            k, j, i = (slice(min(s.start for s in side), max(s.stop for s in side)) for side in sides)
            boxes[segment.number] = (k, j, i)
    return boxes


def _source(array: NDArray[np.generic], parameters: FeatureParameters) -> NDArray[np.generic]:
    """The volume that boxes are cut from: normalised once, by pyradiomics, where the file asks for that."""
    if not _normalized(parameters):
        return array
    import SimpleITK as sitk  # noqa: N813
    from radiomics import imageoperations

    settings = parameters.mappings["setting"]
    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    normalized: NDArray[np.generic] = sitk.GetArrayFromImage(imageoperations.normalizeImage(image, **settings))
    return normalized


class _Cutter:
    """Cuts tasks out of one volume."""

    def __init__(
        self,
        source: NDArray[np.generic],
        segmentation: Segmentation,
        spacing: tuple[float, ...],
        parameters: FeatureParameters,
    ) -> None:
        self._source, self._segmentation = source, segmentation
        self._spacing = (float(spacing[0]), float(spacing[1]), float(spacing[2]))
        self._settings = {k: v for k, v in parameters.mappings["setting"].items() if k != "normalize"}
        self._whole = needs_whole_volume(parameters)
        self._bin_width = float(self._settings.get("binWidth", BIN_WIDTH))
        self._extreme = extreme_of(source)

    def job(self, segment: Segment, box: Box, part: Part) -> Job:
        """What pyradiomics is asked about one segment and image type."""
        margin = part.image.margin(self._spacing)
        around = (
            self._source.shape
            if self._whole
            else tuple(s.stop - s.start + 2 * m for s, m in zip(box, margin, strict=True))
        )
        needed = BYTES_PER_VOXEL.get(part.image.name, BYTES_PER_VOXEL["Original"]) * math.prod(around)
        if "glszm" in part.wanted:
            # Its matrix has a row for every grey level and a column for every size up to the largest zone's.
            inside = self._source[box][self._inside(segment, box)]
            levels = 1 + float(inside.max() - inside.min()) / self._bin_width
            needed += int(8 * levels * inside.size)
        return Job(f"{segment.label}, {part.image.name}", lambda: self._cut(segment, box, part), needed)

    def _inside(self, segment: Segment, box: Box) -> NDArray[np.bool_]:
        return np.isin(self._segmentation.labelmap.array[box], (segment.number, *segment.contains))

    def _cut(self, segment: Segment, box: Box, part: Part) -> Task:
        mask = self._inside(segment, box)
        if self._whole:
            box_margin = tuple(max(s.start, size - s.stop) for s, size in zip(box, self._source.shape, strict=True))
            margin = (box_margin[0], box_margin[1], box_margin[2])
        else:
            margin = part.image.margin(self._spacing)
        cropped = crop(self._source, mask, box, margin, wraps=part.image.wraps and not self._whole)
        if part.image.needs_extreme and not self._whole:
            cropped = with_extreme(cropped, self._extreme)
        asked = {"imageType": {part.image.name: dict(part.image.custom)}, "featureClass": _lists(part.wanted)}
        return Task(cropped.image, cropped.mask, self._spacing, {**asked, "setting": self._settings})


def _lists(wanted: Wanted) -> dict[str, list[str]]:
    return {family: list(names) for family, names in wanted.items()}


def _named(number: int, part: Part, answer: Answer, *, in_hounsfield: bool) -> Iterator[Measurement | FailedFeature]:
    """Measurements from pyradiomics' answer about one segment."""
    for image_filter, name in part.names():
        if isinstance(answer, str):
            yield FailedFeature(number, name, answer, image_filter)
            continue
        value = answer.get(f"{image_filter}_{name}")
        if value is None or not math.isfinite(value):
            reason = NO_VALUE if value is None else f"{value} is not finite"
            yield FailedFeature(number, name, reason, image_filter)
            continue
        if name == "firstorder_Kurtosis":
            value -= EXCESS_KURTOSIS_OFFSET
        feature = FEATURES[name]
        as_is = in_hounsfield and image_filter == ORIGINAL
        unit = feature.unit if as_is else ARBITRARY_UNITS.get(feature.unit, feature.unit)
        yield Measurement(number, name, value, feature.concept, unit, image_filter)
