"""How an SR tells the filter that an image had before it was measured (PS3.16 TID 1419).

A NUM of TID 1419 takes modifiers (HAS CONCEPT MOD CODE) and the parameters of its derivation
(INFERRED FROM NUM). DICOM has no concepts for filters of radiomics; ours say what those of
pyradiomics-dcm say: which filter, and for a Laplacian of Gaussian its sigma, for a wavelet
its sub-band and level.
"""

from __future__ import annotations

import re

from pydicom import Dataset
from pydicom.sr.coding import Code

from ..features.feature_codes import MILLIMETER, NO_UNITS, PRIVATE_SCHEME
from ..measurement import ORIGINAL
from .content_items import HAS_CONCEPT_MOD, INFERRED_FROM, children, coded_item, number_item
from .equipment import code_of

IMAGE_FILTER = Code("IMAGEFILTER", PRIVATE_SCHEME, "Image filter")
SIGMA = Code("LOGSIGMA", PRIVATE_SCHEME, "Sigma of the Gaussian")
LEVEL = Code("WAVELETLEVEL", PRIVATE_SCHEME, "Level of the wavelet decomposition")
SUB_BAND = Code("WAVELETSUBBAND", PRIVATE_SCHEME, "Wavelet sub-band")

LOG = Code("LOG", PRIVATE_SCHEME, "Laplacian of Gaussian")
WAVELET = Code("WAVELET", PRIVATE_SCHEME, "Undecimated wavelet transform")
FILTERS = {
    "square": Code("SQUARE", PRIVATE_SCHEME, "Square"),
    "squareroot": Code("SQUAREROOT", PRIVATE_SCHEME, "Square root"),
    "logarithm": Code("LOGARITHM", PRIVATE_SCHEME, "Logarithm"),
    "exponential": Code("EXPONENTIAL", PRIVATE_SCHEME, "Exponential"),
    "gradient": Code("GRADIENT", PRIVATE_SCHEME, "Gradient magnitude"),
    "lbp-2D": Code("LBP2D", PRIVATE_SCHEME, "Local binary pattern, 2D"),
}
"""Filters without parameters, by pyradiomics' names."""

_LOG_NAME = re.compile(r"log-sigma-(\d+(?:-\d+)?)-mm-3D")
_WAVELET_NAME = re.compile(r"wavelet(\d*)-([HL]+)")


def filter_items(image_filter: str) -> list[bytes]:
    """Content items below a NUM for a filter of pyradiomics; none for the original image.

    Parameters
    ----------
    image_filter : str
        E.g. ``log-sigma-2-0-mm-3D``, ``wavelet-LLH`` or ``square``.
    """
    if image_filter == ORIGINAL:
        return []
    if found := _LOG_NAME.fullmatch(image_filter):
        sigma = float(found[1].replace("-", "."))
        return [_modifier(IMAGE_FILTER, LOG), number_item(SIGMA, INFERRED_FROM, sigma, MILLIMETER)]
    if found := _WAVELET_NAME.fullmatch(image_filter):
        band = Code(found[2], PRIVATE_SCHEME, f"Sub-band {found[2]}")
        level = number_item(LEVEL, INFERRED_FROM, float(found[1] or 1), NO_UNITS)
        return [_modifier(IMAGE_FILTER, WAVELET), _modifier(SUB_BAND, band), level]
    return [_modifier(IMAGE_FILTER, FILTERS[image_filter])]


def read_filter(number: Dataset) -> str:
    """The filter that a NUM tells, by pyradiomics' name (a sigma of 2.0 and one of 2 read the same)."""
    code = _code(number, IMAGE_FILTER)
    if code is None:
        return ORIGINAL
    if code == LOG:
        return f"log-sigma-{_value(number, SIGMA):g}-mm-3D".replace(".", "-")
    if code == WAVELET:
        level, band = int(_value(number, LEVEL)), _code(number, SUB_BAND)
        return f"wavelet{level if level > 1 else ''}-{'' if band is None else band.value}"
    return next(name for name, known in FILTERS.items() if known == code)


def _modifier(concept: Code, value: Code) -> bytes:
    return coded_item(concept, HAS_CONCEPT_MOD, value)


def _code(number: Dataset, concept: Code) -> Code | None:
    item = next(children(number, concept, "CODE"), None)
    return None if item is None else code_of(item.ConceptCodeSequence[0])


def _value(number: Dataset, concept: Code) -> float:
    return float(next(children(number, concept, "NUM")).MeasuredValueSequence[0].NumericValue)
