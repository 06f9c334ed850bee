"""A rejection note of IHE's Imaging Object Change Management: a Key Object Selection that names objects as wrong."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from pydicom import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from .encoding.equipment import MANUFACTURER

REJECTED_FOR_QUALITY = Code("113001", "DCM", "Rejected for Quality Reasons")
"""Title of the note (CID 7010, IHE RAD TF-3 4.66): archives that keep the profile no longer show what it names."""
SERIES_NUMBER = 9_999_999
"""Of the note's series, far from those of images and results."""


def rejection_note(objects: Sequence[Dataset], why: str) -> Dataset:
    """The note, in the study of the objects; patient and study are theirs.

    Parameters
    ----------
    objects : sequence of pydicom.Dataset
        At least one, all of one study.
    why : str
        For people, in the note's description.

    Raises
    ------
    ValueError
        If there is none, or they are of several studies.
    """
    if len({str(each.StudyInstanceUID) for each in objects}) != 1:
        raise ValueError("a rejection note names objects of one study")
    content = KeyObjectSelection(REJECTED_FOR_QUALITY, objects, description=why)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # highdicom quotes the patient's name in one
        return KeyObjectSelectionDocument(
            objects, content, generate_uid(), SERIES_NUMBER, generate_uid(), 1, manufacturer=MANUFACTURER
        )
