"""What each radiomics feature is called in an SR: pyradiomics' name, IBSI code, UCUM unit.

The 28 features, codes, meanings and units of IDC's published collection
(TotalSegmentator segmentations of NLST, ``radiomicsFeaturesMaps.csv`` of its
workflow) stand here letter for letter, so that one query finds both. IBSI has no
code for the four others that pyradiomics gives, nor DICOM or SNOMED CT for the share
of a structure that findings take up; they have codes of ours (PS3.16 section 8.1:
private schemes begin with 99).
"""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.sr.coding import Code

PRIVATE_SCHEME = "99VOXFLEET"
"""Coding scheme designator of concepts that no standard scheme holds."""

NO_UNITS = Code("1", "UCUM", "no units")
MILLIMETER = Code("mm", "UCUM", "millimeter")
SQUARE_MILLIMETER = Code("mm2", "UCUM", "square millimeter")
CUBIC_MILLIMETER = Code("mm3", "UCUM", "cubic millimeter")
PER_MILLIMETER = Code("/mm", "UCUM", "per millimeter")
HOUNSFIELD = Code("[hnsf'U]", "UCUM", "Hounsfield Unit")
SQUARE_HOUNSFIELD = Code("[hnsf'U]2", "UCUM", "square Hounsfield Unit")
SQUARE_HOUNSFIELD_VOLUME = Code("[hnsf'U]2.mm3", "UCUM", "square Hounsfield Unit cubic millimeter")
PERCENT = Code("%", "UCUM", "percent")
ARBITRARY_UNITS = {
    HOUNSFIELD: Code("[arb'U]", "UCUM", "arbitrary unit"),
    SQUARE_HOUNSFIELD: Code("[arb'U]2", "UCUM", "square arbitrary unit"),
    SQUARE_HOUNSFIELD_VOLUME: Code("[arb'U]2.mm3", "UCUM", "square arbitrary unit cubic millimeter"),
}
"""What stands for Hounsfield units where the values of an image are none, as in MR and PET."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature: its name in tables, and its concept and unit in an SR."""

    name: str
    concept: Code
    unit: Code


def _ibsi(name: str, value: str, meaning: str, unit: Code) -> Feature:
    return Feature(name, Code(value, "IBSI", meaning), unit)


def _private(name: str, value: str, meaning: str, unit: Code) -> Feature:
    return Feature(name, Code(value, PRIVATE_SCHEME, meaning), unit)


PUBLISHED = (
    _ibsi("shape_Elongation", "Q3CK", "Elongation", NO_UNITS),
    _ibsi("shape_Flatness", "N17B", "Flatness", NO_UNITS),
    _ibsi("shape_LeastAxisLength", "7J51", "Least Axis in 3D Length", MILLIMETER),
    _ibsi("shape_MajorAxisLength", "TDIC", "Major Axis in 3D Length", MILLIMETER),
    _ibsi("shape_MinorAxisLength", "P9VJ", "Minor Axis in 3D Length", MILLIMETER),
    _ibsi("shape_Maximum3DDiameter", "L0JK", "Maximum 3D Diameter of a Mesh", MILLIMETER),
    _ibsi("shape_MeshVolume", "RNU0", "Volume of Mesh", CUBIC_MILLIMETER),
    _ibsi("shape_VoxelVolume", "YEKZ", "Volume from Voxel Summation", CUBIC_MILLIMETER),
    _ibsi("shape_Sphericity", "QCFX", "Sphericity", NO_UNITS),
    _ibsi("shape_SurfaceArea", "C0JK", "Surface Area of Mesh", SQUARE_MILLIMETER),
    _ibsi("shape_SurfaceVolumeRatio", "2PR5", "Surface to Volume Ratio", PER_MILLIMETER),
    _ibsi("firstorder_10Percentile", "QG58", "10th percentile", HOUNSFIELD),
    _ibsi("firstorder_90Percentile", "8DWT", "90th percentile", HOUNSFIELD),
    _ibsi("firstorder_Energy", "N8CA", "Energy", SQUARE_HOUNSFIELD),
    _ibsi("firstorder_Entropy", "TLU2", "Intensity Histogram Entropy", NO_UNITS),
    _ibsi("firstorder_InterquartileRange", "SALO", "Interquartile range", HOUNSFIELD),
    _ibsi("firstorder_Kurtosis", "IPH6", "Kurtosis", NO_UNITS),
    _ibsi("firstorder_Maximum", "84IY", "Maximum grey level", HOUNSFIELD),
    _ibsi("firstorder_MeanAbsoluteDeviation", "4FUA", "Mean absolute deviation", HOUNSFIELD),
    _ibsi("firstorder_Mean", "Q4LE", "Mean", HOUNSFIELD),
    _ibsi("firstorder_Median", "Y12H", "Median", HOUNSFIELD),
    _ibsi("firstorder_Minimum", "1GSF", "Minimum grey level", HOUNSFIELD),
    _ibsi("firstorder_Range", "2OJQ", "Range", HOUNSFIELD),
    _ibsi("firstorder_RobustMeanAbsoluteDeviation", "1128", "Robust mean absolute deviation", HOUNSFIELD),
    _ibsi("firstorder_RootMeanSquared", "5ZWQ", "Root mean square", HOUNSFIELD),
    _ibsi("firstorder_Skewness", "KE2A", "Skewness", NO_UNITS),
    _ibsi("firstorder_Uniformity", "BJ5W", "Intensity histogram uniformity", NO_UNITS),
    _ibsi("firstorder_Variance", "ECT3", "Variance", SQUARE_HOUNSFIELD),
)
"""The 28 features of the published collection."""

UNPUBLISHED = (
    _private("shape_Maximum2DDiameterSlice", "MAX2DSLICE", "Maximum diameter of a mesh within a slice", MILLIMETER),
    _private(
        "shape_Maximum2DDiameterColumn", "MAX2DCOLUMN", "Maximum diameter of a mesh within a row plane", MILLIMETER
    ),
    _private("shape_Maximum2DDiameterRow", "MAX2DROW", "Maximum diameter of a mesh within a column plane", MILLIMETER),
    _private("firstorder_TotalEnergy", "TOTALENERGY", "Energy times voxel volume", SQUARE_HOUNSFIELD_VOLUME),
)
"""What pyradiomics gives beyond them. Its "Column" diameter lies in a plane of one row, and the reverse."""

INVOLVEMENT = _private("involvement_Percent", "INVOLVEMENT", "Percent of structure occupied by findings", PERCENT)
"""Of a structure: the share of its voxels that belong to findings it contains."""
SHARE = _private(
    "involvement_PercentOfStructure", "FINDINGSHARE", "Percent of containing structure occupied by finding", PERCENT
)
"""Of a finding: the share that it has of the structure that contains it."""

RADIOMICS = PUBLISHED + UNPUBLISHED
"""All features that both engines compute, in the order of the SR."""

EXCESS_KURTOSIS_OFFSET = 3.0
"""IBSI's kurtosis (IPH6) is that of pyradiomics minus 3, which is 0 for a normal distribution."""
