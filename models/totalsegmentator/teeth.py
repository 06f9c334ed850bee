"""Codes of the package's task ``teeth``: jaws, canals, prostheses, and each permanent tooth with its pulp.

Teeth have the codes of DICOM's CID 4018, by their FDI numbers (ISO 3950). DICOM has none for a pulp or for a canal of
the mandible: these have codes of a private scheme, and the tooth or bone that they lie in as their anatomic region.
"""

from __future__ import annotations

from pydicom.sr.coding import Code

from ..codes import LEFT, PHYSICAL_OBJECT, PRIVATE_SCHEME, RIGHT
from .coded_class import CodedClass, sct

_PULP = Code("DENTALPULP", PRIVATE_SCHEME, "Dental pulp")
_CANAL = Code("MANDIBLECANAL", PRIVATE_SCHEME, "Canal of mandible")
_MANDIBLE = sct("91609006", "Mandible")
_SINUS = sct("15924003", "Maxillary sinus")
_PROSTHESIS = sct("27606000", "Dental Prosthesis")
_IMPLANT = sct("40388003", "Implant")
_JAW = sct("661005", "Jaw region")

_TEETH = {
    11: sct("422653006", "Permanent maxillary right central incisor tooth"),
    12: sct("424877001", "Permanent maxillary right lateral incisor tooth"),
    13: sct("860767006", "Permanent maxillary right canine tooth"),
    14: sct("57826002", "Permanent maxillary right first premolar tooth"),
    15: sct("36492000", "Permanent maxillary right second premolar tooth"),
    16: sct("865995000", "Permanent maxillary right first molar tooth"),
    17: sct("863902006", "Permanent maxillary right second molar tooth"),
    18: sct("68085002", "Permanent maxillary right third molar tooth"),
    21: sct("424399000", "Permanent maxillary left central incisor tooth"),
    22: sct("423185002", "Permanent maxillary left lateral incisor tooth"),
    23: sct("860780009", "Permanent maxillary left canine tooth"),
    24: sct("61897005", "Permanent maxillary left first premolar tooth"),
    25: sct("23226009", "Permanent maxillary left second premolar tooth"),
    26: sct("865988009", "Permanent maxillary left first molar tooth"),
    27: sct("863901004", "Permanent maxillary left second molar tooth"),
    28: sct("87704003", "Permanent maxillary left third molar tooth"),
    31: sct("425106001", "Mandibular left central incisor tooth"),
    32: sct("423331005", "Mandibular left lateral tooth"),
    33: sct("860782001", "Mandibular left canine tooth"),
    34: sct("2400006", "Mandibular left first premolar tooth"),
    35: sct("24573005", "Mandibular left second premolar tooth"),
    36: sct("866006002", "Mandibular left first molar tooth"),
    37: sct("863898000", "Mandibular left second molar tooth"),
    38: sct("74344005", "Mandibular left third molar tooth"),
    41: sct("424575004", "Mandibular right central incisor tooth"),
    42: sct("423937004", "Mandibular right lateral incisor tooth"),
    43: sct("860785004", "Mandibular right canine tooth"),
    44: sct("80140008", "Mandibular right first premolar tooth"),
    45: sct("8873007", "Mandibular right second premolar tooth"),
    46: sct("866005003", "Mandibular right first molar tooth"),
    47: sct("863899008", "Mandibular right second molar tooth"),
    48: sct("38994002", "Mandibular right third molar tooth"),
}
"""By FDI number, with DICOM's meanings; the side is part of the code."""
_QUADRANTS = {1: "upper_right", 2: "upper_left", 3: "lower_left", 4: "lower_right"}
_KINDS = (
    "central_incisor",
    "lateral_incisor",
    "canine",
    "first_premolar",
    "second_premolar",
    "first_molar",
    "second_molar",
    "third_molar",
)


def _teeth() -> dict[str, CodedClass]:
    """Teeth and pulps by class name: ``upper_left_canine_fdi23``, ``upper_left_canine_pulp_fdi123``."""
    found = {}
    for fdi, code in _TEETH.items():
        name = f"{_QUADRANTS[fdi // 10]}_{_KINDS[fdi % 10 - 1]}"
        label = name.replace("_", " ").title()
        found[f"{name}_fdi{fdi}"] = CodedClass(label, code)
        found[f"{name}_pulp_fdi{100 + fdi}"] = CodedClass(f"Pulp of {label}", _PULP, code)
    return found


TEETH_CLASSES = {
    **_teeth(),
    "lower_jawbone": CodedClass("Lower Jawbone", _MANDIBLE),
    "upper_jawbone": CodedClass("Upper Jawbone", sct("70925003", "Maxilla")),
    "left_inferior_alveolar_canal": CodedClass("Left Inferior Alveolar Canal", _CANAL, _MANDIBLE, laterality=LEFT),
    "right_inferior_alveolar_canal": CodedClass("Right Inferior Alveolar Canal", _CANAL, _MANDIBLE, laterality=RIGHT),
    "left_mandibular_incisive_canal_fdi103": CodedClass("Left Incisive Canal", _CANAL, _MANDIBLE, laterality=LEFT),
    "right_mandibular_incisive_canal_fdi104": CodedClass("Right Incisive Canal", _CANAL, _MANDIBLE, laterality=RIGHT),
    "lingual_canal": CodedClass("Lingual Canal", _CANAL, _MANDIBLE),
    "left_maxillary_sinus": CodedClass("Left Maxillary Sinus", _SINUS, laterality=LEFT),
    "right_maxillary_sinus": CodedClass("Right Maxillary Sinus", _SINUS, laterality=RIGHT),
    "pharynx": CodedClass("Pharynx", sct("54066008", "Pharynx")),
    "bridge": CodedClass("Dental Bridge", _PROSTHESIS, _JAW, PHYSICAL_OBJECT),
    "crown": CodedClass("Dental Crown", _PROSTHESIS, _JAW, PHYSICAL_OBJECT),
    "implant": CodedClass("Dental Implant", _IMPLANT, _JAW, PHYSICAL_OBJECT),
}
"""By class name."""
