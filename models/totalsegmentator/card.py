"""Cards of TotalSegmentator's tasks, made from the tables of the installed package."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version

from .. import speed
from ..model import ModelCard
from ..nnunet.card import REPRODUCIBILITY
from ..segmentation import Segment
from .codes import coded, segment_of
from .tasks import Task, tasks
from .weights import weights_of

FAMILY = "totalsegmentator"

FINE_MM = 2.0
"""Networks at a spacing below this hold a whole body's worth of tiles."""
FINE_BYTES, COARSE_BYTES = 12_000_000_000, 6_000_000_000
"""Host memory for 512x512x300."""

CITATIONS = (
    "Wasserthal J, et al. TotalSegmentator: robust segmentation of 104 anatomic structures in CT images. "
    "Radiology: Artificial Intelligence 2023;5(5). doi:10.1148/ryai.230024",
    "Isensee F, et al. nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation. "
    "Nature Methods 2021;18:203-211. doi:10.1038/s41592-020-01008-z",
)
MR_CITATION = (
    "Akinci D'Antonoli T, et al. TotalSegmentator MRI: robust sequence-independent segmentation of multiple anatomic "
    "structures in MRI. Radiology 2025;314:e241613. doi:10.1148/radiol.241613"
)


@cache
def offered() -> dict[str, Task]:
    """Tasks by name whose classes all have codes, so that a SEG can say what they are."""
    return {name: task for name, task in tasks().items() if all(coded(each) for each in task.classes.values())}


def card_of(task: Task) -> ModelCard:
    """What a task declares; its weights are those that are on this machine now."""
    segments = _segments(task)
    spacings = [spacing for each in task.predictions for spacing in each.spacing_mm or (0.0,)]
    mr = (MR_CITATION,) if task.modality == "MR" else ()
    return ModelCard(
        name=f"{FAMILY}:{task.name}",
        version=version("TotalSegmentator"),
        description=f"TotalSegmentator, task {task.package_task}: {_resolution(task)}, by nnU-Net.",
        intended_use=(
            "Research. Structures are found as the authors of TotalSegmentator trained them; no medical device, "
            "and no diagnosis."
        ),
        modality=(task.modality,),
        body_part="WHOLEBODY" if task.crop is None else "",
        algorithm_family="AI",
        segments=segments,
        weights=weights_of(task),
        parameters={"remove_small_blobs_mm3": "0", "resampling_order": "1", **speed.DEFAULTS},
        memory_bytes=FINE_BYTES if min(spacings) < FINE_MM else COARSE_BYTES,
        gpu_bytes=0,
        code_licence="Apache-2.0",
        weights_licence="Apache-2.0",
        citations=(*CITATIONS, *mr),
        reproducibility=REPRODUCIBILITY,
    )


@cache
def _segments(task: Task) -> tuple[Segment, ...]:
    found = ((number, name, coded(name)) for number, name in sorted(task.classes.items()))
    return tuple(segment_of(number, name, codes) for number, name, codes in found if codes is not None)


def _resolution(task: Task) -> str:
    count = len(task.classes)
    structures = f"{count} structure{'s' if count > 1 else ''}"
    if task.prediction.spacing_mm is None:
        return f"{structures} at the scan's own spacing"
    return f"{structures} at {'x'.join(f'{mm:.3g}' for mm in task.prediction.spacing_mm)} mm"
