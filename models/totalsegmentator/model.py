"""A loaded task of TotalSegmentator: the order of its `python_api.totalsegmentator` with warm networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import highdicom as hd
import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from totalsegmentator.postprocessing import refine_vertebrae_pp_with_body_mask

from ..model import ModelCard
from ..parameters import InvalidParameter, numbers
from ..segmentation import Segmentation
from ..speed import DEFAULTS, speed_of
from ..volume_check import check_values
from .networks import WarmNetworks
from .steps import Labels, Options, box_around, predict
from .tasks import Crop, Task

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
HIGHEST_ORDER = 5
"""Of the splines of scipy.ndimage.zoom."""
REFINEMENT_MM = 2
"""nnUNet_predict_image, refine_vertebrae_pp_with_body_mask(..., dilation_mm=2)."""


class TotalSegmentator:
    """One loaded task.

    Parameters
    ----------
    card : ModelCard
    task : Task
    networks : WarmNetworks
        With all networks of the task.
    """

    def __init__(self, card: ModelCard, task: Task, networks: WarmNetworks) -> None:
        self._card = card
        self._task = task
        self._networks = networks

    @property
    def card(self) -> ModelCard:
        """What the model declares about itself."""
        return self._card

    def segment(self, volume: hd.Volume, parameters: Mapping[str, str]) -> Segmentation:
        """Segmentation on the grid of `volume`; see `Model.segment`.

        Raises
        ------
        InvalidParameter, InvalidVolume
            If a parameter is unknown or out of range; if the volume is empty, flat or not finite.
        """
        options, networks = self._options(parameters), self._networks.at(speed_of(self._card, parameters))
        check_values(volume, self._card.name)
        image = nib.Nifti1Image(volume.array, LPS_TO_RAS @ volume.affine)
        labels = self._labels(self._task, networks, image, options)
        return Segmentation(volume.with_array(labels), self._card.segments)

    def _labels(self, task: Task, networks: WarmNetworks, image: nib.Nifti1Image, options: Options) -> Labels:
        """The order of the package's `python_api.totalsegmentator`."""
        rough = replace(options, smallest_mm3=0.0)
        box = None
        if task.crop is not None:
            found = self._found_by(task.crop, networks, image, rough)
            # For a result that is written, nothing to crop to is nothing found; a crop's own crop is not
            # written, and then the package looks at the whole image.
            if task is self._task and not found.any():
                return np.zeros(image.shape, np.uint8)
            box = box_around(found, image, task.crop.margin_mm)
        labels = predict(networks, task.prediction, image, options, box)
        if task.bodies is None:
            return labels
        bodies = predict(networks, task.bodies, image, rough)
        zooms = image.header.get_zooms()
        refined: Labels = refine_vertebrae_pp_with_body_mask(labels, bodies, task.classes, zooms, REFINEMENT_MM)
        return refined

    def _found_by(
        self, crop: Crop, networks: WarmNetworks, image: nib.Nifti1Image, options: Options
    ) -> NDArray[np.bool_]:
        """Mask of the structures that a crop goes round."""
        if isinstance(crop.found_by, Task):
            labels = self._labels(crop.found_by, networks, image, options)
        else:
            labels = predict(networks, crop.found_by, image, options)
        return np.isin(labels, crop.structures)

    def _options(self, parameters: Mapping[str, str]) -> Options:
        values = numbers(self._card, parameters, besides=DEFAULTS)
        order, smallest_mm3 = values["resampling_order"], values["remove_small_blobs_mm3"]
        if order not in range(HIGHEST_ORDER + 1):
            raise InvalidParameter(self._card.name, f"resampling_order: {order:g} is not 0 to {HIGHEST_ORDER}")
        if smallest_mm3 < 0:
            raise InvalidParameter(self._card.name, f"remove_small_blobs_mm3: {smallest_mm3:g} is below 0")
        return Options(int(order), smallest_mm3)
