"""Pictures of one structure as the expert and the model have it, both outlines on the image."""

from __future__ import annotations

import numpy as np

from ..models.codes import ANATOMICAL_STRUCTURE, ENTIRE_BODY
from ..models.segmentation import Segment, Segmentation
from ..runners.pictures import Picture, pictures
from .case import PictureRequest
from .paired_case import pair_case
from .readings import read_image
from .references.packed_mask import PackedMask, nothing

COLORS = {"expert": (47, 191, 113), "model": (232, 62, 140), "both": (255, 214, 64)}
"""sRGB, told apart by the colour-blind too."""
BOTH = 3
"""Label of what lies within both outlines."""


def draw_case(request: PictureRequest) -> tuple[Picture, ...]:
    """Axial, coronal and sagittal picture where the two outlines are largest; none where there is nothing to show.

    Raises
    ------
    RetrieveError, AccessDenied, GeometryRefused
        If the image cannot be had or read.
    """
    image = read_image(request.case)
    case = pair_case(image, request.case)
    expert = case.readings.get(request.reference, {}).get(request.segment)
    found = case.found.get(request.model, {}).get(request.segment)
    if expert is None:
        return ()
    labels = _labels(expert, found or nothing(expert.shape))
    segmentation = Segmentation(image.volume.with_array(labels), _segments())
    return pictures(image.volume, segmentation, image.series.modality)


def _labels(expert: PackedMask, model: PackedMask) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """1 where only the expert has it, 2 where only the model, 3 where both."""
    return expert.whole().astype(np.uint8) + 2 * model.whole().astype(np.uint8)


def _segments() -> tuple[Segment, ...]:
    """What the three labels are: of the anatomy of nothing, so that no finding decides where to cut."""
    return tuple(
        Segment(n, name, name, ANATOMICAL_STRUCTURE, ENTIRE_BODY, color, contains=() if n == BOTH else (BOTH,))
        for n, (name, color) in enumerate(COLORS.items(), start=1)
    )
