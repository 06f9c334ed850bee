"""RICORD's labels of opacities on chest CT, and the codes that stand for them.

The six labels are those of the annotations of MIDRC-RICORD-1a (labelName in its MD.ai export of 2020-Dec-8; Tsai et
al., Radiology 2021, doi:10.1148/radiol.2021203957). Atelectasis is a SNOMED CT concept. For the others no published
code list has a concept that says the same: DICOM's CID 6104 has Opacity, Tree-in-bud sign, Micronodule, Nodule and
Mass, but each either leaves out infectious or noninfectious, by which RICORD tells its labels apart, or is one half of
a label. So they have codes of a private scheme, whose meanings are RICORD's labels as they are written there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pydicom.sr.coding import Code

from ..codes import PRIVATE_SCHEME


@dataclass(frozen=True, slots=True)
class Finding:
    """One of RICORD's labels.

    Attributes
    ----------
    label : str
        As it is written there.
    code : Code
        Segmented Property Type.
    color : tuple of int
        sRGB.
    """

    label: str
    code: Code
    color: tuple[int, int, int]

    @property
    def name(self) -> str:
        """The label as a class name, e.g. ``infectious_tib_micronodules``."""
        return class_name(self.label)


def class_name(text: str) -> str:
    """Lower case, with one underscore for all that is neither letter nor figure."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def _private(value: str, label: str, color: tuple[int, int, int]) -> Finding:
    return Finding(label, Code(value, PRIVATE_SCHEME, label), color)


FINDINGS = (
    _private("RICORDINFOPAC", "Infectious opacity", (216, 101, 79)),
    _private("RICORDINFTIB", "Infectious TIB/micronodules", (230, 180, 60)),
    _private("RICORDINFCAVITY", "Infectious cavity", (150, 60, 140)),
    _private("RICORDNONINFNOD", "Noninfectious nodule/mass", (90, 160, 90)),
    Finding("Atelectasis", Code("46621007", "SCT", "Atelectasis"), (111, 184, 210)),
    _private("RICORDNONINFOPAC", "Other noninfectious opacity", (170, 170, 90)),
)
"""In the order in which segments are numbered. Values are at most 16 characters, as an SH is (PS3.5 table 6.2-1)."""
