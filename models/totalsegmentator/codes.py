"""Codes of TotalSegmentator's classes: the package's own SNOMED CT table, and what it leaves out.

The package's table (``resources/totalsegmentator_snomed_mapping.csv``) covers its total and body maps.
The classes of its other tasks stand here, with codes of DICOM PS3.16; where DICOM has no code for a
structure itself (single muscles, most of all) it gets that of what it is a part or a kind of, and its
label says which one it is.
"""

from __future__ import annotations

import colorsys
import csv
from dataclasses import replace
from functools import cache
from importlib.resources import files

from pydicom.sr.coding import Code

from ..codes import LEFT, LUNG, MORPHOLOGICALLY_ABNORMAL_STRUCTURE, RIGHT, TRACHEA_AND_BRONCHUS
from ..segmentation import Segment
from .coded_class import CodedClass, sct
from .teeth import TEETH_CLASSES

_GOLDEN_ANGLE = 0.618033988749895
"""Turns between the hues of two neighbouring classes without a colour of their own."""

_MISSPELT = {"Gluteus minius muscle": "Gluteus minimus muscle"}
"""Code Meanings of the table, as they were meant."""


_MUSCLE = sct("127954009", "Skeletal muscle")
_BONE_OF_HEAD = sct("312779009", "Bone structure of head and/or neck")
_CARTILAGE = sct("309312004", "Cartilage")
_LARYNX = sct("4596009", "Larynx")
_AIRWAY = sct("89187006", "Airway structure")
_VERTEBRA = sct("51282000", "Vertebra")
_LATERAL_VENTRICLE = sct("66720007", "Lateral Ventricle")
_LIVER = sct("10200004", "Liver")
_BRAIN = sct("12738006", "Brain")
_FINDING = MORPHOLOGICALLY_ABNORMAL_STRUCTURE

_MUSCLES = (
    "masseter",
    "temporalis",
    "lateral_pterygoid",
    "medial_pterygoid",
    "digastric",
    "superior_pharyngeal_constrictor",
    "middle_pharyngeal_constrictor",
    "inferior_pharyngeal_constrictor",
    "platysma",
    "levator_scapulae",
    "middle_scalene",
    "posterior_scalene",
    "sterno_thyroid",
    "thyrohyoid",
    "prevertebral",
    "lateral_rectus_muscle",
    "superior_oblique_muscle",
    "levator_palpebrae_superioris",
    "superior_rectus_muscle",
    "medial_rectus_muscle",
    "inferior_oblique_muscle",
    "inferior_rectus_muscle",
    "rectus_abdominis",
    "external_oblique",
    "internal_oblique",
    "transversospinalis",
    "psoas_major",
    "quadratus_lumborum",
)
"""Classes without side that DICOM has no code for."""

_COUINAUD = (
    ("71133005", "I"),
    ("277956007", "II"),
    ("277957003", "III"),
    ("277958008", "IV"),
    ("277959000", "V"),
    ("277960005", "VI"),
    ("277961009", "VII"),
    ("277962002", "VIII"),
)

_CLASSES: dict[str, CodedClass] = {
    **{name: CodedClass(name.replace("_", " ").title(), _MUSCLE) for name in _MUSCLES},
    **{
        f"liver_segment_{number}": CodedClass(f"Liver Segment {part}", sct(value, f"Couinaud hepatic segment {part}"))
        for number, (value, part) in enumerate(_COUINAUD, start=1)
    },
    "anterior_scalene": CodedClass("Anterior Scalene", sct("50755001", "Scalenous anterior muscle")),
    "sternocleidomastoid": CodedClass("Sternocleidomastoid", sct("22823000", "Sternocleidomastoid muscle")),
    "trapezius": CodedClass("Trapezius", sct("31764008", "Trapezius muscle")),
    "pectoralis_major": CodedClass("Pectoralis Major", sct("60005003", "Pectoralis major muscle")),
    "serratus_anterior": CodedClass("Serratus Anterior", sct("18346003", "Serratus anterior muscle")),
    "latissimus_dorsi": CodedClass("Latissimus Dorsi", sct("15665001", "Latissimus dorsi muscle")),
    "erector_spinae": CodedClass("Erector Spinae", sct("44947003", "Erector spinae muscle")),
    "tongue": CodedClass("Tongue", sct("21974007", "Tongue")),
    "lung": CodedClass("Lung", LUNG),
    "lung_nodules": CodedClass("Nodules of Lung", sct("27925004", "Nodule"), LUNG, _FINDING),
    "lung_airways": CodedClass("Airways", TRACHEA_AND_BRONCHUS),
    "lung_airways_wall": CodedClass("Wall of Airways", _AIRWAY),
    "lung_arteries": CodedClass("Pulmonary Arteries", sct("81040000", "Pulmonary artery")),
    "lung_veins": CodedClass("Pulmonary Veins", sct("122972007", "Pulmonary vein")),
    "liver_lesions": CodedClass("Lesions of Liver", sct("52988006", "Lesion"), _LIVER, _FINDING),
    "brain_aneurysm": CodedClass("Aneurysm of Brain", sct("85659009", "aneurysm"), _BRAIN, _FINDING),
    "breast": CodedClass("Breast", sct("76752008", "Breast")),
    "abdominal_cavity": CodedClass("Abdominal Cavity", sct("52731004", "Abdominal cavity")),
    "thoracic_cavity": CodedClass("Thoracic Cavity", sct("43799004", "Chest cavity")),
    "pericardium": CodedClass("Pericardium", sct("76848001", "Pericardium")),
    "mediastinum": CodedClass("Mediastinum", sct("72410000", "Mediastinum")),
    "vertebrae": CodedClass("Vertebrae", _VERTEBRA),
    "vertebrae_L6": CodedClass("L6 vertebra", _VERTEBRA, sct("122496007", "Lumbar spine")),
    "intervertebral_discs": CodedClass("Intervertebral Discs", sct("421060004", "Spine")),
    "eye": CodedClass("Eye", sct("81745001", "Eye")),
    "eyeball": CodedClass("Eyeball", sct("79652003", "Eyeball")),
    "eye_lens": CodedClass("Lens of Eye", sct("78076003", "Lens")),
    "optic_nerve": CodedClass("Optic Nerve", sct("18234004", "optic nerve")),
    "parotid_gland": CodedClass("Parotid Gland", sct("45289007", "Parotid gland")),
    "submandibular_gland": CodedClass("Submandibular Gland", sct("54019009", "Submandibular gland")),
    "nasopharynx": CodedClass("Nasopharynx", sct("71836000", "nasopharynx")),
    "oropharynx": CodedClass("Oropharynx", sct("31389004", "oropharynx")),
    "hypopharynx": CodedClass("Hypopharynx", sct("81502006", "Hypopharynx")),
    "nasal_cavity": CodedClass("Nasal Cavity", sct("279549004", "nasal cavity")),
    "auditory_canal": CodedClass("Auditory Canal", sct("84301002", "External auditory canal")),
    "soft_palate": CodedClass("Soft Palate", sct("49460000", "Soft palate")),
    "hard_palate": CodedClass("Hard Palate", _BONE_OF_HEAD),
    "larynx_air": CodedClass("Air of Larynx", _LARYNX),
    "thyroid_cartilage": CodedClass("Thyroid Cartilage", _CARTILAGE, _LARYNX),
    "cricoid_cartilage": CodedClass("Cricoid Cartilage", _CARTILAGE, _LARYNX),
    "hyoid": CodedClass("Hyoid Bone", sct("21387005", "Hyoid bone")),
    "zygomatic_arch": CodedClass("Zygomatic Arch", sct("13881006", "Zygoma")),
    "styloid_process": CodedClass("Styloid Process", _BONE_OF_HEAD),
    "internal_carotid_artery": CodedClass("Internal Carotid Artery", sct("86117002", "Internal carotid artery")),
    "internal_jugular_vein": CodedClass("Internal Jugular Vein", sct("12123001", "Internal jugular vein")),
    "mandible": CodedClass("Mandible", sct("91609006", "Mandible")),
    "teeth_lower": CodedClass("Lower Teeth", sct("88176008", "Mandibular dental arch")),
    "teeth_upper": CodedClass("Upper Teeth", sct("39481002", "Maxillary dental arch")),
    "head": CodedClass("Head", sct("69536005", "Head")),
    "sinus_maxillary": CodedClass("Maxillary Sinus", sct("15924003", "Maxillary sinus")),
    "sinus_frontal": CodedClass("Frontal Sinus", sct("55060009", "Frontal sinus")),
    "ventricle_frontal_horn": CodedClass("Frontal Horn", sct("30399003", "Anterior Horn Lateral Ventricle")),
    "ventricle_occipital_horn": CodedClass("Occipital Horn", sct("52943005", "Posterior Horn Lateral Ventricle")),
    "ventricle_temporal_horn": CodedClass("Temporal Horn", sct("53118009", "Inferior Horn of Lateral Ventricle")),
    "ventricle_body": CodedClass("Body of Lateral Ventricle", _LATERAL_VENTRICLE),
    "ventricle_trigone": CodedClass("Trigone of Lateral Ventricle", _LATERAL_VENTRICLE),
    "third_ventricle": CodedClass("Third Ventricle", sct("49841001", "Third ventricle")),
    "fourth_ventricle": CodedClass("Fourth Ventricle", sct("35918002", "Fourth Ventricle")),
    **TEETH_CLASSES,
}
"""Classes that the package's table leaves out, without their side."""


def coded(name: str) -> CodedClass | None:
    """Codes of a class of the package, or None if there are none."""
    if name in _table():
        return _table()[name]
    if name in _CLASSES:
        return _CLASSES[name]
    bare, _, side = name.rpartition("_")
    laterality = {"left": LEFT, "right": RIGHT}.get(side)
    if laterality is None or bare not in _CLASSES:
        return None
    found = _CLASSES[bare]
    return replace(found, label=f"{laterality.meaning} {found.label}", laterality=laterality)


def segment_of(number: int, name: str, found: CodedClass) -> Segment:
    """Segment of a class of the package."""
    return Segment(
        number=number,
        label=found.label,
        name=name,
        category=found.category,
        type=found.type,
        color=found.color or _color(number),
        laterality=found.laterality,
        anatomic_region=found.region,
    )


@cache
def _table() -> dict[str, CodedClass]:
    """The package's table by class name."""
    path = files("totalsegmentator") / "resources" / "totalsegmentator_snomed_mapping.csv"
    rows = csv.DictReader(path.read_text(encoding="utf-8").splitlines())
    return {row["Structure"]: _of_row(row) for row in rows}


def _of_row(row: dict[str, str]) -> CodedClass:
    kind = _code(row, "SegmentedPropertyTypeCodeSequence")
    category = _code(row, "SegmentedPropertyCategoryCodeSequence")
    region = _code(row, "AnatomicRegionSequence")
    side = _code(row, "SegmentedPropertyTypeModifierCodeSequence")
    side_of_region = _code(row, "AnatomicRegionModifierSequence")
    if kind is None or category is None:
        raise ValueError(f"{row['Structure']}: the package's SNOMED table gives no category or type")
    label = f"{side.meaning} {kind.meaning}" if side else kind.meaning
    if region:
        label += f" of {side_of_region.meaning} {region.meaning}" if side_of_region else f" of {region.meaning}"
    red, green, blue = (int(part) for part in row["DicomRGBColor"].split(","))
    return CodedClass(label, kind, region, category, side or side_of_region, (red, green, blue))


def _code(row: dict[str, str], sequence: str) -> Code | None:
    value, scheme, meaning = (
        row[f"{sequence}.{key}"] for key in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
    )
    return Code(value, scheme, _MISSPELT.get(meaning, meaning)) if value else None


def _color(number: int) -> tuple[int, int, int]:
    """A colour for a class that has none: hues spread by the golden angle."""
    red, green, blue = colorsys.hsv_to_rgb(number * _GOLDEN_ANGLE % 1.0, 0.6, 0.85)
    return round(255 * red), round(255 * green), round(255 * blue)
