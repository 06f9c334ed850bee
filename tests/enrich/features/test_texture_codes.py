"""Every feature has the code under which IBSI tabulates its value."""

from __future__ import annotations

import csv
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from voxfleet.enrich.features.extraction import measure_features
from voxfleet.enrich.features.feature_codes import PRIVATE_SCHEME
from voxfleet.enrich.features.feature_parameters import read_feature_parameters
from voxfleet.enrich.features.texture_codes import FEATURES
from voxfleet.enrich.measurement import Measured
from voxfleet.models.codes import ANATOMICAL_STRUCTURE, LUNG
from voxfleet.models.segmentation import Segment, Segmentation

radiomics = pytest.importorskip("radiomics")
sitk = pytest.importorskip("SimpleITK")

# IBSI's codes of the benchmark's tags, as MIRP, by an author of IBSI, lists them (docs_source/source/features_names.rst
# of github.com/oncoray/mirp at 1de0527), with the aggregation that pyradiomics has (the mean over 3D directions).
TAGS = """
morph_volume RNU0 morph_vol_approx YEKZ morph_area_mesh C0JK morph_av 2PR5 morph_comp_1 SKGS morph_comp_2 BQWJ
morph_sph_dispr KRCK morph_sphericity QCFX morph_diam L0JK morph_pca_maj_axis TDIC morph_pca_min_axis P9VJ
morph_pca_least_axis 7J51 morph_pca_elongation Q3CK morph_pca_flatness N17B
stat_mean Q4LE stat_var ECT3 stat_skew KE2A stat_kurt IPH6 stat_median Y12H stat_min 1GSF stat_p10 QG58 stat_p90 8DWT
stat_max 84IY stat_iqr SALO stat_range 2OJQ stat_mad 4FUA stat_rmad 1128 stat_energy N8CA stat_rms 5ZWQ
ih_entropy TLU2 ih_uniformity BJ5W
cm_joint_max_3D_avg GYBY cm_joint_avg_3D_avg 60VM cm_joint_var_3D_avg UR99 cm_joint_entr_3D_avg TU9B
cm_diff_avg_3D_avg TF7R cm_diff_var_3D_avg D3YU cm_diff_entr_3D_avg NTRS cm_sum_avg_3D_avg ZGXS cm_sum_var_3D_avg OEEB
cm_sum_entr_3D_avg P6QZ cm_energy_3D_avg 8ZQL cm_contrast_3D_avg ACUI cm_dissimilarity_3D_avg 8S9J
cm_inv_diff_3D_avg IB1Z cm_inv_diff_norm_3D_avg NDRX cm_inv_diff_mom_3D_avg WF0Z cm_inv_diff_mom_norm_3D_avg 1QCO
cm_inv_var_3D_avg E8JP cm_corr_3D_avg NI2N cm_auto_corr_3D_avg QWB0 cm_clust_tend_3D_avg DG8W
cm_clust_shade_3D_avg 7NFM cm_clust_prom_3D_avg AE86 cm_info_corr1_3D_avg R8DG cm_info_corr2_3D_avg JN9H
rlm_sre_3D_avg 22OV rlm_lre_3D_avg W4KF rlm_lgre_3D_avg V3SW rlm_hgre_3D_avg G3QZ rlm_srlge_3D_avg HTZT
rlm_srhge_3D_avg GD3A rlm_lrlge_3D_avg IVPO rlm_lrhge_3D_avg 3KUM rlm_glnu_3D_avg R5YN rlm_glnu_norm_3D_avg OVBL
rlm_rlnu_3D_avg W92Y rlm_rlnu_norm_3D_avg IC23 rlm_r_perc_3D_avg 9ZK5 rlm_gl_var_3D_avg 8CE5 rlm_rl_var_3D_avg SXLW
rlm_rl_entr_3D_avg HJ9O
szm_sze_3D 5QRC szm_lze_3D 48P8 szm_lgze_3D XMSY szm_hgze_3D 5GN9 szm_szlge_3D 5RAI szm_szhge_3D HW1V szm_lzlge_3D YH51
szm_lzhge_3D J17V szm_glnu_3D JNSA szm_glnu_norm_3D Y1RO szm_zsnu_3D 4JP3 szm_zsnu_norm_3D VB3A szm_z_perc_3D P30P
szm_gl_var_3D BYLV szm_zs_var_3D 3NSA szm_zs_entr_3D GU8N
ngt_coarseness_3D QCDE ngt_contrast_3D 65HE ngt_busyness_3D NQ30 ngt_complexity_3D HDEZ ngt_strength_3D 1X9X
ngl_lde_3D SODN ngl_hde_3D IMOQ ngl_lgce_3D TL9H ngl_hgce_3D OAE7 ngl_ldlge_3D EQ3F ngl_ldhge_3D JA6D
ngl_hdlge_3D NBZI ngl_hdhge_3D 9QMG ngl_glnu_3D FP8K ngl_glnu_norm_3D 5SPA ngl_dcnu_3D Z87G ngl_dcnu_norm_3D OKJI
ngl_dc_perc_3D 6XV8 ngl_gl_var_3D 1PFV ngl_dc_var_3D DNX2 ngl_dc_entr_3D FCBV
"""
AXES = {"P9VJ", "7J51", "TDIC"}
"""IBSI divides the covariance of the voxels' places by their number less 1, pyradiomics by their number."""
WITHOUT_A_VALUE = {"OEEB", "8S9J", "5SPA", "6XV8"}
"""Deprecated in pyradiomics, which computes none."""


def parameters_of(tmp_path: Path, text: str):
    """Feature parameters with this content."""
    file = tmp_path / "features.yaml"
    file.write_text(text)
    return read_feature_parameters(file)


@pytest.fixture(scope="module")
def measured(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """All features of IBSI's digital phantom, with its discretisation: intensities as they are."""
    folder = shared_data / "radiomics" / "ibsi1-digital-phantom" / "nifti"
    image, mask = (sitk.ReadImage(str(folder / f"{name}.nii.gz")) for name in ("image/phantom", "mask/mask"))
    assert image.GetSpacing() == (2, 2, 2)
    volume = hd.Volume(sitk.GetArrayFromImage(image), np.diag([2.0, 2.0, 2.0, 1.0])[[2, 1, 0, 3]], "PATIENT")
    labels = volume.with_array(sitk.GetArrayFromImage(mask).astype(np.uint8))
    segment = Segment(1, "Phantom", "phantom", ANATOMICAL_STRUCTURE, LUNG, (1, 2, 3))
    named = "shape: [Compactness1, Compactness2, SphericalDisproportion, " + ", ".join(
        name for name, deprecated in radiomics.getFeatureClasses()["shape"].getFeatureNames().items() if not deprecated
    )
    classes = "".join(f", {name}: []" for name in ("firstorder", "glcm", "glrlm", "glszm", "ngtdm", "gldm"))
    text = f"setting: {{binWidth: 1}}\nfeatureClass: {{{named}]{classes}}}"
    parameters = parameters_of(tmp_path_factory.mktemp("phantom"), text)
    return measure_features(volume, Segmentation(labels, (segment,)), parameters, cores=1)


@pytest.fixture(scope="module")
def benchmark(shared_data: Path) -> dict[str, tuple[str, float]]:
    """Consensus value, as printed, and tolerance of each code of the digital phantom."""
    words = TAGS.split()
    codes = dict(zip(words[::2], words[1::2], strict=True))
    path = shared_data / "radiomics" / "ibsi1-digital-phantom" / "ibsi_1_dig_phantom.csv"
    with path.open() as file:
        rows = [row for row in csv.DictReader(file, delimiter=";") if row["tag"] in codes]
    return {codes[row["tag"]]: (row["reference value"], float(row["tolerance"])) for row in rows}


def half_a_unit(printed: str) -> float:
    """Half a unit of the last of three significant digits (manual, section 5.1)."""
    return 0.5 * 10.0 ** (np.floor(np.log10(abs(float(printed)))) - 2)


def test_every_code_gives_the_consensus_value(measured: Measured, benchmark: dict[str, tuple[str, float]]) -> None:
    """Each feature with an IBSI code has that code's consensus value on the phantom, within IBSI's tolerance."""
    assert not measured.failed
    values = {m.concept.value: m.value for m in measured.measurements if m.concept.scheme_designator == "IBSI"}
    assert set(values) == set(benchmark) - WITHOUT_A_VALUE
    for code in set(values) - AXES:
        printed, tolerance = benchmark[code]
        allowed = max(tolerance, half_a_unit(printed))
        assert values[code] == pytest.approx(float(printed), abs=allowed), code
    assert len(set(values) - AXES) == 102


def test_axes_deviate_by_the_divisor_of_the_covariance(measured: Measured, benchmark) -> None:
    """Axis lengths times sqrt(N / (N - 1)) have IBSI's values: that, and no more, is the difference."""
    values = {m.concept.value: m.value for m in measured.measurements}
    for code in AXES:
        printed, tolerance = benchmark[code]
        assert values[code] * np.sqrt(74 / 73) == pytest.approx(float(printed), abs=tolerance)
        # The manual takes 74 voxels for the phantom.


def test_every_feature_of_pyradiomics_has_a_code() -> None:
    """What the installed pyradiomics can compute has a code and a unit here, and nothing has a code twice."""
    names = {
        f"{family}_{name}"
        for family, found in radiomics.getFeatureClasses().items()
        for name in found.getFeatureNames()
    }
    assert names <= set(FEATURES)
    assert {name for name in set(FEATURES) - names if not name.startswith("involvement_")} == set()
    concepts = [feature.concept for feature in FEATURES.values()]
    assert len({(c.value, c.scheme_designator) for c in concepts}) == len(concepts)
    assert all(len(c.value) <= 16 and len(c.meaning) <= 64 for c in concepts)
    assert {c.scheme_designator for c in concepts} == {"IBSI", PRIVATE_SCHEME}
