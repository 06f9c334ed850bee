"""Feature codes are those of the published collection."""

from __future__ import annotations

from voxfleet.enrich.features.feature_codes import INVOLVEMENT, PRIVATE_SCHEME, PUBLISHED, RADIOMICS, SHARE, UNPUBLISHED

CODE_VALUE_LENGTH = 16
"""Code Value (0008,0100): VR SH."""
CODE_MEANING_LENGTH = 64
"""Code Meaning (0008,0104): VR LO."""

# pyradiomics name; IBSI code; meaning; unit, unit's meaning (radiomicsFeaturesMaps.csv of IDC's CloudSegmentator).
PUBLISHED_TABLE = """
Elongation Q3CK|Elongation|1|no units
Flatness N17B|Flatness|1|no units
LeastAxisLength 7J51|Least Axis in 3D Length|mm|millimeter
MajorAxisLength TDIC|Major Axis in 3D Length|mm|millimeter
MinorAxisLength P9VJ|Minor Axis in 3D Length|mm|millimeter
Maximum3DDiameter L0JK|Maximum 3D Diameter of a Mesh|mm|millimeter
MeshVolume RNU0|Volume of Mesh|mm3|cubic millimeter
VoxelVolume YEKZ|Volume from Voxel Summation|mm3|cubic millimeter
Sphericity QCFX|Sphericity|1|no units
SurfaceArea C0JK|Surface Area of Mesh|mm2|square millimeter
SurfaceVolumeRatio 2PR5|Surface to Volume Ratio|/mm|per millimeter
10Percentile QG58|10th percentile|[hnsf'U]|Hounsfield Unit
90Percentile 8DWT|90th percentile|[hnsf'U]|Hounsfield Unit
Energy N8CA|Energy|[hnsf'U]2|square Hounsfield Unit
Entropy TLU2|Intensity Histogram Entropy|1|no units
InterquartileRange SALO|Interquartile range|[hnsf'U]|Hounsfield Unit
Kurtosis IPH6|Kurtosis|1|no units
Maximum 84IY|Maximum grey level|[hnsf'U]|Hounsfield Unit
MeanAbsoluteDeviation 4FUA|Mean absolute deviation|[hnsf'U]|Hounsfield Unit
Mean Q4LE|Mean|[hnsf'U]|Hounsfield Unit
Median Y12H|Median|[hnsf'U]|Hounsfield Unit
Minimum 1GSF|Minimum grey level|[hnsf'U]|Hounsfield Unit
Range 2OJQ|Range|[hnsf'U]|Hounsfield Unit
RobustMeanAbsoluteDeviation 1128|Robust mean absolute deviation|[hnsf'U]|Hounsfield Unit
RootMeanSquared 5ZWQ|Root mean square|[hnsf'U]|Hounsfield Unit
Skewness KE2A|Skewness|1|no units
Uniformity BJ5W|Intensity histogram uniformity|1|no units
Variance ECT3|Variance|[hnsf'U]2|square Hounsfield Unit
"""


def test_published_codes_are_verbatim():
    """The 28 features have the published codes, meanings and units, letter for letter."""
    actual = [
        f"{f.name.split('_')[1]} {f.concept.value}|{f.concept.meaning}|{f.unit.value}|{f.unit.meaning}"
        for f in PUBLISHED
    ]
    assert PUBLISHED_TABLE.strip().splitlines() == actual
    assert {(f.concept.scheme_designator, f.unit.scheme_designator) for f in PUBLISHED} == {("IBSI", "UCUM")}


def test_names_and_codes_are_unique_and_fit():
    """No two features share a name or a code, and all fit their value representations."""
    features = (*RADIOMICS, INVOLVEMENT, SHARE)
    assert len(features) == len({f.name for f in features}) == len({f.concept for f in features}) == 34
    for feature in features:
        assert len(feature.concept.value) <= CODE_VALUE_LENGTH
        assert len(feature.concept.meaning) <= CODE_MEANING_LENGTH


def test_what_no_scheme_holds_is_private():
    """Features without an IBSI code carry our private scheme, which begins with 99 (PS3.16 section 8)."""
    assert {f.concept.scheme_designator for f in (*UNPUBLISHED, INVOLVEMENT, SHARE)} == {PRIVATE_SCHEME}
    assert PRIVATE_SCHEME.startswith("99")
