"""SNOMED CT and DICOM codes that segments are made of.

Codes and meanings are those of DICOM PS3.16 (CID 7150, 7151, 244) and of the
published IDC collection, so that a segment of ours is found by the same query.
"""

from __future__ import annotations

from pydicom.sr.coding import Code

PRIVATE_SCHEME = "99VOXFLEET"
"""Coding scheme of our own; PS3.16 section 8 leaves designators that begin with 99 to everyone."""

ANATOMICAL_STRUCTURE = Code("123037004", "SCT", "Anatomical Structure")
"""Segmented Property Category of organs; the published collection's meaning, not CID 7150's newer one."""
MORPHOLOGICALLY_ABNORMAL_STRUCTURE = Code("49755003", "SCT", "Morphologically Abnormal Structure")
"""Segmented Property Category of lesions and findings (CID 7150)."""
PHYSICAL_OBJECT = Code("260787004", "SCT", "Physical object")
"""Segmented Property Category of implants and devices (CID 7150)."""
RIGHT = Code("24028007", "SCT", "Right")
LEFT = Code("7771000", "SCT", "Left")
LUNG = Code("39607008", "SCT", "Lung")
ENTIRE_BODY = Code("38266002", "SCT", "Entire body")
"""CID 4 Anatomic Region."""
TRACHEA_AND_BRONCHUS = Code("110726009", "SCT", "Trachea and bronchus")
"""CID 7151 Segmented Property Type of Anatomical Structure."""
BONE = Code("272673000", "SCT", "Bone")
GROUND_GLASS_OPACITY = Code("112120", "DCM", "Ground glass opacity")
"""CID 6104 Chest Abnormality or Finding."""
LUNG_CONSOLIDATION = Code("95436008", "SCT", "Lung consolidation")
"""SNOMED CT: the finding of which pneumonia is a kind; DICOM has no code of its own for it."""
