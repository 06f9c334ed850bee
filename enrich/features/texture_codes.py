"""Codes of the features that pyradiomics gives beyond the published ones: textures, 2D shape, and deprecated ones.

Codes and names are those of the IBSI reference manual (arXiv:1612.07003), one a matrix: grey level variance of runs
(8CE5) is not that of zones (BYLV). The mapping to pyradiomics' names is held to the manual's own benchmark by a test:
each feature with a code gives the value that the manual tabulates for that code (`FEATURES.md` lists which differ, and
why). It is not that of pyradiomics-dcm, whose ``featuresDict_IBSIv7.tsv`` gives Idn, Idm and Idmn each other's codes,
has codes of distance zones for two size zone features, and none for Autocorrelation, Imc1 and Imc2.

What IBSI does not code has a code of ours: pyradiomics' name in capitals, shortened where it is over 16 characters.
"""

from __future__ import annotations

from pydicom.sr.coding import Code

from .feature_codes import (
    HOUNSFIELD,
    INVOLVEMENT,
    MILLIMETER,
    NO_UNITS,
    PER_MILLIMETER,
    PRIVATE_SCHEME,
    RADIOMICS,
    SHARE,
    SQUARE_MILLIMETER,
    Feature,
)

IBSI_TEXTURES = """
glcm GLCM
Autocorrelation QWB0 Autocorrelation
ClusterProminence AE86 Cluster prominence
ClusterShade 7NFM Cluster shade
ClusterTendency DG8W Cluster tendency
Contrast ACUI Contrast
Correlation NI2N Correlation
DifferenceAverage TF7R Difference average
DifferenceEntropy NTRS Difference entropy
DifferenceVariance D3YU Difference variance
Dissimilarity 8S9J Dissimilarity
Id IB1Z Inverse difference
Idm WF0Z Inverse difference moment
Idmn 1QCO Normalised inverse difference moment
Idn NDRX Normalised inverse difference
Imc1 R8DG First measure of information correlation
Imc2 JN9H Second measure of information correlation
InverseVariance E8JP Inverse variance
JointAverage 60VM Joint average
JointEnergy 8ZQL Angular second moment
JointEntropy TU9B Joint entropy
MaximumProbability GYBY Joint maximum
SumAverage ZGXS Sum average
SumEntropy P6QZ Sum entropy
SumSquares UR99 Joint variance
SumVariance OEEB Sum variance
glrlm GLRLM
GrayLevelNonUniformity R5YN Grey level non-uniformity
GrayLevelNonUniformityNormalized OVBL Normalised grey level non-uniformity
GrayLevelVariance 8CE5 Grey level variance
HighGrayLevelRunEmphasis G3QZ High grey level run emphasis
LongRunEmphasis W4KF Long runs emphasis
LongRunHighGrayLevelEmphasis 3KUM Long run high grey level emphasis
LongRunLowGrayLevelEmphasis IVPO Long run low grey level emphasis
LowGrayLevelRunEmphasis V3SW Low grey level run emphasis
RunEntropy HJ9O Run entropy
RunLengthNonUniformity W92Y Run length non-uniformity
RunLengthNonUniformityNormalized IC23 Normalised run length non-uniformity
RunPercentage 9ZK5 Run percentage
RunVariance SXLW Run length variance
ShortRunEmphasis 22OV Short runs emphasis
ShortRunHighGrayLevelEmphasis GD3A Short run high grey level emphasis
ShortRunLowGrayLevelEmphasis HTZT Short run low grey level emphasis
glszm GLSZM
GrayLevelNonUniformity JNSA Grey level non-uniformity
GrayLevelNonUniformityNormalized Y1RO Normalised grey level non-uniformity
GrayLevelVariance BYLV Grey level variance
HighGrayLevelZoneEmphasis 5GN9 High grey level zone emphasis
LargeAreaEmphasis 48P8 Large zone emphasis
LargeAreaHighGrayLevelEmphasis J17V Large zone high grey level emphasis
LargeAreaLowGrayLevelEmphasis YH51 Large zone low grey level emphasis
LowGrayLevelZoneEmphasis XMSY Low grey level zone emphasis
SizeZoneNonUniformity 4JP3 Zone size non-uniformity
SizeZoneNonUniformityNormalized VB3A Normalised zone size non-uniformity
SmallAreaEmphasis 5QRC Small zone emphasis
SmallAreaHighGrayLevelEmphasis HW1V Small zone high grey level emphasis
SmallAreaLowGrayLevelEmphasis 5RAI Small zone low grey level emphasis
ZoneEntropy GU8N Zone size entropy
ZonePercentage P30P Zone percentage
ZoneVariance 3NSA Zone size variance
ngtdm NGTDM
Busyness NQ30 Busyness
Coarseness QCDE Coarseness
Complexity HDEZ Complexity
Contrast 65HE Contrast
Strength 1X9X Strength
gldm NGLDM
DependenceEntropy FCBV Dependence count entropy
DependenceNonUniformity Z87G Dependence count non-uniformity
DependenceNonUniformityNormalized OKJI Normalised dependence count non-uniformity
DependencePercentage 6XV8 Dependence count percentage
DependenceVariance DNX2 Dependence count variance
GrayLevelNonUniformity FP8K Grey level non-uniformity
GrayLevelNonUniformityNormalized 5SPA Normalised grey level non-uniformity
GrayLevelVariance 1PFV Grey level variance
HighGrayLevelEmphasis OAE7 High grey level count emphasis
LargeDependenceEmphasis IMOQ High dependence emphasis
LargeDependenceHighGrayLevelEmphasis 9QMG High dependence high grey level emphasis
LargeDependenceLowGrayLevelEmphasis NBZI High dependence low grey level emphasis
LowGrayLevelEmphasis TL9H Low grey level count emphasis
SmallDependenceEmphasis SODN Low dependence emphasis
SmallDependenceHighGrayLevelEmphasis JA6D Low dependence high grey level emphasis
SmallDependenceLowGrayLevelEmphasis EQ3F Low dependence low grey level emphasis
"""
"""A line with a pyradiomics class and IBSI's matrix, then its features: pyradiomics' name, IBSI code, IBSI's name."""


def _textures() -> list[Feature]:
    features, family, matrix = [], "", ""
    for line in IBSI_TEXTURES.strip().splitlines():
        name, _, rest = line.partition(" ")
        if name.islower():
            family, matrix = name, rest
            continue
        value, _, meaning = rest.partition(" ")
        features.append(Feature(f"{family}_{name}", Code(value, "IBSI", f"{meaning} ({matrix})"), NO_UNITS))
    return features


def _private(name: str, value: str, meaning: str, unit: Code = NO_UNITS) -> Feature:
    return Feature(name, Code(value, PRIVATE_SCHEME, meaning), unit)


UNCODED = (
    _private("glcm_MCC", "GLCM_MCC", "Maximal correlation coefficient (GLCM)"),
    _private("glcm_Homogeneity1", "GLCM_HOMOGENEIT1", "Homogeneity 1 (GLCM), the same as inverse difference"),
    _private("glcm_Homogeneity2", "GLCM_HOMOGENEIT2", "Homogeneity 2 (GLCM), the same as inverse difference moment"),
    _private("firstorder_StandardDeviation", "STANDARDDEVIAT", "Standard deviation of intensities", HOUNSFIELD),
    _private("shape2D_MeshSurface", "2DMESHSURFACE", "Area of the 2D mesh", SQUARE_MILLIMETER),
    _private("shape2D_PixelSurface", "2DPIXELSURFACE", "Area from pixel summation", SQUARE_MILLIMETER),
    _private("shape2D_Perimeter", "2DPERIMETER", "Perimeter of the 2D mesh", MILLIMETER),
    _private("shape2D_PerimeterSurfaceRatio", "2DPERIMSURFRATIO", "Perimeter to surface ratio", PER_MILLIMETER),
    _private("shape2D_Sphericity", "2DSPHERICITY", "Sphericity (2D)"),
    _private("shape2D_SphericalDisproportion", "2DSPHERDISPROP", "Spherical disproportion (2D)"),
    _private("shape2D_MaximumDiameter", "2DMAXDIAMETER", "Maximum diameter of the 2D mesh", MILLIMETER),
    _private("shape2D_MajorAxisLength", "2DMAJORAXIS", "Major axis length (2D)", MILLIMETER),
    _private("shape2D_MinorAxisLength", "2DMINORAXIS", "Minor axis length (2D)", MILLIMETER),
    _private("shape2D_Elongation", "2DELONGATION", "Elongation (2D)"),
)
"""What pyradiomics gives and IBSI does not code."""

DEPRECATED_SHAPE = (
    Feature("shape_Compactness1", Code("SKGS", "IBSI", "Compactness 1"), NO_UNITS),
    Feature("shape_Compactness2", Code("BQWJ", "IBSI", "Compactness 2"), NO_UNITS),
    Feature("shape_SphericalDisproportion", Code("KRCK", "IBSI", "Spherical disproportion"), NO_UNITS),
)
"""Given by pyradiomics only where a parameter file asks for them by name."""

FEATURES = {
    feature.name: feature for feature in (*RADIOMICS, *DEPRECATED_SHAPE, *_textures(), *UNCODED, INVOLVEMENT, SHARE)
}
"""Every feature that a measurement can have, by its name in tables."""
