"""A process that computes features by pyradiomics: ``python -m voxfleet.enrich.features.feature_worker FD PARENT_PID``.

It answers tasks from a connection until that is closed, and the kernel kills it with the
thread that started it, so that a parent that is killed leaves nothing behind.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..lifetime import die_with_parent, leave_stopping_to_parent


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One image type of one segment.

    Attributes
    ----------
    image, mask : ndarray (k, j, i)
        Of one shape; the mask is 1 in the segment.
    spacing_mm : tuple of float
        Between voxel centres, (k, j, i).
    parameters : mapping
        As of a parameter file of pyradiomics.
    """

    image: NDArray[np.generic]
    mask: NDArray[np.uint8]
    spacing_mm: tuple[float, float, float]
    parameters: Mapping[str, Any]


def compute(task: Task) -> dict[str, float] | str:
    """Values by pyradiomics' names (``filter_class_Feature``), or the reason that it refuses the segment for."""
    import SimpleITK as sitk  # noqa: N813
    from radiomics.featureextractor import RadiomicsFeatureExtractor

    logging.getLogger("radiomics").setLevel(logging.ERROR)  # Only now: importing it sets its level.
    pair = [sitk.GetImageFromArray(np.ascontiguousarray(array)) for array in (task.image, task.mask)]
    for itk_image in pair:
        itk_image.SetSpacing([float(step) for step in task.spacing_mm[::-1]])
    extractor = RadiomicsFeatureExtractor(dict(task.parameters), additionalInfo=False)
    try:
        with np.errstate(all="ignore"):  # What is not finite is told as failed.
            result = extractor.execute(*pair, label=1)
    except ValueError as refusal:
        return " ".join(str(refusal).split())
    return {name: float(value) for name, value in result.items()}


def main() -> None:
    """Answer tasks until the connection is closed; an exception is an answer too."""
    die_with_parent(int(sys.argv[2]))
    leave_stopping_to_parent()
    with Connection(int(sys.argv[1])) as connection:
        while True:
            try:
                task = connection.recv()
            except EOFError:
                return
            try:
                answer: object = compute(task)
            except Exception as exc:  # noqa: BLE001 - the parent raises it
                answer = exc
            connection.send(answer)


if __name__ == "__main__":
    main()
