"""Concept names of a Measurement Report (PS3.16 TID 1500, 1411 and what they include)."""

from __future__ import annotations

from pydicom.sr.coding import Code

MEASUREMENT_REPORT = Code("126000", "DCM", "Imaging Measurement Report")
LANGUAGE = Code("121049", "DCM", "Language of Content Item and Descendants")
ENGLISH = Code("eng", "RFC5646", "English")
OBSERVER_TYPE = Code("121005", "DCM", "Observer Type")
DEVICE = Code("121007", "DCM", "Device")
DEVICE_UID = Code("121012", "DCM", "Device Observer UID")
DEVICE_NAME = Code("121013", "DCM", "Device Observer Name")
DEVICE_MANUFACTURER = Code("121014", "DCM", "Device Observer Manufacturer")
DEVICE_MODEL = Code("121015", "DCM", "Device Observer Model Name")
DEVICE_SERIAL = Code("121016", "DCM", "Device Observer Serial Number")
PROCEDURE_REPORTED = Code("121058", "DCM", "Procedure reported")
IMAGING_PROCEDURE = Code("363679005", "SCT", "Imaging procedure")
IMAGE_LIBRARY = Code("111028", "DCM", "Image Library")
IMAGE_LIBRARY_GROUP = Code("126200", "DCM", "Image Library Group")
MODALITY = Code("121139", "DCM", "Modality")
FRAME_OF_REFERENCE_UID = Code("112227", "DCM", "Frame of Reference UID")
IMAGING_MEASUREMENTS = Code("126010", "DCM", "Imaging Measurements")
MEASUREMENT_GROUP = Code("125007", "DCM", "Measurement Group")
"""Its meaning letter for letter: the Imaging Data Commons finds the groups by it."""
TRACKING_IDENTIFIER = Code("112039", "DCM", "Tracking Identifier")
TRACKING_UID = Code("112040", "DCM", "Tracking Unique Identifier")
FINDING = Code("121071", "DCM", "Finding")
FINDING_SITE = Code("363698007", "SCT", "Finding Site")
LATERALITY = Code("272741003", "SCT", "Laterality")
REFERENCED_SEGMENT = Code("121191", "DCM", "Referenced Segment")
SOURCE_SERIES = Code("121232", "DCM", "Source series for segmentation")
ALGORITHM_NAME = Code("111001", "DCM", "Algorithm Name")
ALGORITHM_PARAMETERS = Code("111002", "DCM", "Algorithm Parameters")
ALGORITHM_VERSION = Code("111003", "DCM", "Algorithm Version")
MODALITIES = {
    "CT": Code("CT", "DCM", "Computed Tomography"),
    "MR": Code("MR", "DCM", "Magnetic Resonance"),
    "PT": Code("PT", "DCM", "Positron emission tomography"),
}
"""CID 29, those that a volume can be read from."""
