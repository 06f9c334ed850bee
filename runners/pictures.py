"""Pictures of a segmentation on its volume, in three planes, as radiologists hang them."""

from __future__ import annotations

import io
from dataclasses import dataclass

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from ..models.codes import LUNG
from ..models.segmentation import Segment, Segmentation
from .planes import PLANES, StandardView, chosen_slices, standard_view

LETTERS = {"axial": "RLAP", "coronal": "RLHF", "sagittal": "APHF"}
"""Directions of the patient at the left, right, top and bottom of each picture."""

LUNG_WINDOW = (-1350.0, 150.0)
"""Width 1500 HU about -600 HU."""
SOFT_TISSUE_WINDOW = (-160.0, 240.0)
"""Width 400 HU about 40 HU."""
AERATED_HU = -300.0
"""Segments whose mean is below count as lung when the window is chosen."""
PERCENTILES = (0.5, 99.5)
"""Of the voxels that are not the darkest value: the window of everything that is not CT."""

LONGEST_PIXELS = 560
"""Longer side of a picture, in pixels."""
MOST_BYTES = 1_200_000
"""Of all pictures of a page; they are made smaller until they fit, so that the page stays below 2 MB."""
COMPRESSION = 4
"""zlib's level: a tenth of its best one's seconds, which were most of a small series', for files a tenth larger."""
SHRINK = 0.85
FEWEST_PIXELS = 64

FILL_ALPHA = 88
OUTLINE_ALPHA = 235
CONTAINER_OUTLINE_PIXELS = 2
SAMPLES = 1_000_000


@dataclass(frozen=True, slots=True)
class Picture:
    """One plane: a grey picture, and what is drawn over it, of the same size in pixels.

    Attributes
    ----------
    plane : str
        ``axial``, ``coronal`` or ``sagittal``.
    letters : str
        Directions of the patient at the left, right, top and bottom: of R, L, A, P, H, F.
    caption : str
        Where the slice lies, the window, and how far it is from the patient's own plane.
    grey_png, overlay_png : bytes
        8-bit grey; and RGBA, empty where nothing is segmented.
    segments : tuple of int
        Numbers of the segments to be seen.
    """

    plane: str
    letters: str
    caption: str
    width: int
    height: int
    grey_png: bytes
    overlay_png: bytes
    segments: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Window:
    lowest: float
    highest: float
    name: str


def pictures(volume: hd.Volume, segmentation: Segmentation, modality: str) -> tuple[Picture, ...]:
    """Axial, coronal and sagittal picture, where there is most to see.

    The patient's right is at the left of the axial and coronal pictures, anterior is at the top
    of the axial and at the left of the sagittal, and the head is up; oblique volumes are shown
    along their own axes, in the nearest such position. One pixel has the same millimetres in
    all three.

    Parameters
    ----------
    volume : highdicom.Volume
        Array (k, j, i), HU for CT.
    segmentation : Segmentation
        On the same grid.
    modality : str
        DICOM Modality: ``CT`` has the windows of lung and soft tissue, all others percentiles.
    """
    view = standard_view(volume, segmentation)
    window = _window(view, segmentation, modality)
    slices = chosen_slices(view, segmentation)
    longest = LONGEST_PIXELS
    while True:
        made = tuple(_picture(view, segmentation, window, (axis, slices[axis]), longest) for axis in range(3))
        total = sum(len(picture.grey_png) + len(picture.overlay_png) for picture in made)
        if total <= MOST_BYTES or longest * SHRINK < FEWEST_PIXELS:
            return made
        longest = int(longest * SHRINK)


def flattened(picture: Picture) -> bytes:
    """PNG of one picture with its overlay and letters drawn in, to be used outside of a page."""
    image = Image.open(io.BytesIO(picture.grey_png)).convert("RGBA")
    image.alpha_composite(Image.open(io.BytesIO(picture.overlay_png)))
    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=16)
    w, h = picture.width, picture.height
    for letter, place, anchor in zip(
        picture.letters, ((6, h / 2), (w - 6, h / 2), (w / 2, 6), (w / 2, h - 6)), ("lm", "rm", "ma", "md"), strict=True
    ):
        pen.text(place, letter, fill="white", font=font, anchor=anchor, stroke_width=2, stroke_fill="black")
    return _png(image.convert("RGB"))


def _window(view: StandardView, segmentation: Segmentation, modality: str) -> _Window:
    step = max(1, round((view.labels.size / SAMPLES) ** (1 / 3)))
    values, labels = view.volume[::step, ::step, ::step], view.labels[::step, ::step, ::step]
    if modality == "CT":
        present = [segment for segment in segmentation.segments if (labels == segment.number).any()]
        lungs = [segment for segment in present if _is_lung(segment, values[labels == segment.number])]
        if 2 * len(lungs) >= len(present) > 0:
            return _Window(*LUNG_WINDOW, "lung window, -600 ± 750 HU")
        return _Window(*SOFT_TISSUE_WINDOW, "soft tissue window, 40 ± 200 HU")
    finite = values[np.isfinite(values)]
    inside = finite[finite > finite.min()] if finite.size else finite
    lowest, highest = np.percentile(inside, PERCENTILES) if inside.size else (0.0, 1.0)
    return _Window(float(lowest), max(float(highest), float(lowest) + 1e-6), f"{lowest:.4g} to {highest:.4g}")


def _is_lung(segment: Segment, values: NDArray[np.generic]) -> bool:
    region = segment.anatomic_region
    in_lung = segment.type == LUNG or (region is not None and region == LUNG)
    return in_lung or float(values.mean()) < AERATED_HU


def _picture(
    view: StandardView, segmentation: Segmentation, window: _Window, place: tuple[int, int], longest: int
) -> Picture:
    axis, index = place
    size = _size(view, axis, longest)
    grey = _grey(np.take(view.volume, index, axis), window, size)
    labels = _resized(np.take(view.labels, index, axis), size)
    plane = PLANES[axis]
    tilt = f", tilted by {view.tilt_degrees:.0f}° against the patient" if view.tilted else ""
    return Picture(
        plane=plane,
        letters=LETTERS[plane],
        caption=f"slice {index + 1} of {view.labels.shape[axis]}{tilt}; {window.name}",
        width=size[0],
        height=size[1],
        grey_png=_png(grey),
        overlay_png=_png(_overlay(labels, segmentation)),
        segments=_seen(labels, segmentation),
    )


def _size(view: StandardView, axis: int, longest: int) -> tuple[int, int]:
    """Width and height in pixels; the volume's longest side has `longest`."""
    extents = [count * step for count, step in zip(view.labels.shape, view.spacing_mm, strict=True)]
    scale = longest / max(extents)
    height, width = (max(1, round(scale * extent)) for number, extent in enumerate(extents) if number != axis)
    return width, height


def _grey(plane: NDArray[np.generic], window: _Window, size: tuple[int, int]) -> Image.Image:
    values = np.nan_to_num(plane.astype(np.float32), nan=window.lowest)
    scaled = np.clip((values - window.lowest) / (window.highest - window.lowest), 0.0, 1.0)
    image = Image.fromarray(np.rint(scaled * 255).astype(np.uint8))
    return image.resize(size, Image.Resampling.BICUBIC)


def _resized(labels: NDArray[np.unsignedinteger], size: tuple[int, int]) -> NDArray[np.unsignedinteger]:
    """Nearest neighbours, so that no number appears that was not there."""
    rows = ((np.arange(size[1]) + 0.5) * labels.shape[0] / size[1]).astype(int)
    columns = ((np.arange(size[0]) + 0.5) * labels.shape[1] / size[0]).astype(int)
    return labels[np.ix_(rows, columns)]


def _overlay(labels: NDArray[np.unsignedinteger], segmentation: Segmentation) -> Image.Image:
    """Translucent segments with outlines; one that contains others is an outline only, so that they show."""
    table = np.zeros((len(segmentation.segments) + 1, 4), np.uint8)
    for segment in segmentation.segments:
        table[segment.number] = (*segment.color, 0 if segment.contains else FILL_ALPHA)
    rgba = table[labels]
    # The most inclusive first, so that the outlines of what lies within are drawn over it.
    containers = (segment for segment in segmentation.segments if segment.contains)
    for segment in sorted(containers, key=lambda each: -len(each.contains)):
        mask = np.isin(labels, (segment.number, *segment.contains))
        if mask.any():
            rim = mask & ~ndimage.binary_erosion(mask, iterations=CONTAINER_OUTLINE_PIXELS)
            rgba[rim] = (*segment.color, OUTLINE_ALPHA)
    # All others share no pixel, so that a hundred of them are outlined at once.
    rim = _edges(labels) & (table[labels, 3] > 0)
    rgba[rim] = table[labels[rim]]
    rgba[rim, 3] = OUTLINE_ALPHA
    return Image.fromarray(rgba)


def _edges(labels: NDArray[np.unsignedinteger]) -> NDArray[np.bool_]:
    """Pixels at the picture's edge, or beside one of another number."""
    around = np.pad(labels, 1)
    beside = (around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:])
    edges: NDArray[np.bool_] = np.logical_or.reduce([labels != other for other in beside])
    return edges


def _seen(labels: NDArray[np.unsignedinteger], segmentation: Segmentation) -> tuple[int, ...]:
    there = set(np.unique(labels).tolist())
    return tuple(s.number for s in segmentation.segments if there & {s.number, *s.contains})


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=COMPRESSION)
    return buffer.getvalue()
