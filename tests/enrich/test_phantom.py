"""The generated chest CT and its DICOM series."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)
from voxfleet.enrich.phantom import (
    CONSOLIDATION_BALL,
    GROUND_GLASS_BALL,
    CtIdentity,
    Fault,
    PhantomError,
    chest_phantom,
    write_ct_series,
)


def test_balls_have_their_volume():
    """A ball of 20 mm holds 33.5 ml (4/3 π 2³) and one of 15 mm 14.1 ml, as far as voxels and a 4 % scale allow."""
    phantom = chest_phantom((140, 192, 192), (2.0, 2.0, 2.0), seed=1, opacities=(GROUND_GLASS_BALL, CONSOLIDATION_BALL))
    scale = np.ptp(np.argwhere(phantom.truth.mask(1)).T[2]) * 2.0 / 320
    volume_ml = {number: np.count_nonzero(phantom.truth.mask(number)) * 8 / 1000 for number in (6, 9)}
    assert volume_ml[6] == pytest.approx(33.51 * scale**3, rel=0.05)
    assert volume_ml[9] == pytest.approx(14.14 * scale**3, rel=0.05)


def test_density_is_what_it_says():
    """Mean Hounsfield units of aerated lung, ground glass, consolidation and lumen, noise of 15 HU averaged."""
    phantom = chest_phantom((70, 160, 160), (4.0, 2.4, 2.4), seed=7)
    array, labels = phantom.volume.array, phantom.truth.labelmap.array
    expected = {2: -860, 6: -550, 9: 20, 4: -1000}
    for number, hounsfield in expected.items():
        assert np.median(array[labels == number]) == pytest.approx(hounsfield, abs=10)


def test_seed_decides_everything():
    """The same seed gives the same voxels, another seed others."""
    first, again, other = (chest_phantom(seed=seed).volume.array for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_right_lung_is_on_the_patients_right():
    """The truth's right lung lies at negative LPS x, the table behind the patient at positive y."""
    truth = chest_phantom(seed=1).truth
    middle = np.argwhere(truth.mask(2)).mean(axis=0)
    assert (truth.labelmap.affine @ [*middle, 1])[0] < -40


@pytest.mark.parametrize("transfer_syntax", [ExplicitVRLittleEndian, RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_series_gives_the_volume_back(tmp_path, transfer_syntax):
    """Files hold the voxels and the geometry that were written, in every transfer syntax, without dciodvfy errors."""
    volume = chest_phantom((6, 64, 64), (6.0, 5.0, 5.0), seed=1).volume
    paths = write_ct_series(volume, tmp_path, transfer_syntax=transfer_syntax)
    slices = [pydicom.dcmread(path) for path in paths]
    array = np.stack([ds.pixel_array * ds.RescaleSlope + ds.RescaleIntercept for ds in slices])
    np.testing.assert_array_equal(volume.array, array)
    assert {ds.file_meta.TransferSyntaxUID for ds in slices} == {transfer_syntax}
    for k, ds in enumerate(slices):
        np.testing.assert_allclose(volume.affine[:3, 3] + k * volume.affine[:3, 0], ds.ImagePositionPatient)
    done = subprocess.run(["dciodvfy", "-new", str(paths[0])], capture_output=True, text=True, check=False)
    assert "Error" not in done.stderr + done.stdout
    assert done.returncode == 0


def test_oblique_volume_keeps_its_geometry(tmp_path):
    """A volume with k to the left is written sagittal: rows run to the back, columns to the feet."""
    volume = chest_phantom((8, 64, 64), (6.0, 5.0, 5.0), seed=1).volume.to_patient_orientation("LFP")
    ds = pydicom.dcmread(write_ct_series(volume, tmp_path)[0])
    assert [float(value) for value in ds.ImageOrientationPatient] == [0, 1, 0, 0, 0, -1]
    assert (ds.Rows, ds.Columns) == (8, 64)
    assert [float(value) for value in ds.PixelSpacing] == [6, 5]


def test_same_volume_gives_the_same_bytes(tmp_path):
    """Writing twice gives equal files; UIDs are unique in a series, differ between volumes, and say phantom."""
    volumes = [chest_phantom((4, 48, 48), (20.0, 8.0, 8.0), seed=seed).volume for seed in (1, 1, 2)]
    first, again, other = (write_ct_series(volume, tmp_path / str(n)) for n, volume in enumerate(volumes))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    headers = [pydicom.dcmread(path) for path in first]
    assert len({ds.SOPInstanceUID for ds in headers}) == len(first)
    assert headers[0].SeriesInstanceUID != pydicom.dcmread(other[0]).SeriesInstanceUID
    assert str(headers[0].PatientName).startswith("PHANTOM^")
    assert headers[0].QualityControlImage == "YES"


def test_series_of_one_study_share_it(tmp_path):
    """Two names within one study have one patient, study and frame, and two series."""
    one, two = (CtIdentity.named(name, study="visit") for name in ("inspiration", "expiration"))
    assert (one.patient_id, one.study_instance_uid) == (two.patient_id, two.study_instance_uid)
    assert one.frame_of_reference_uid == two.frame_of_reference_uid
    assert one.series_instance_uid != two.series_instance_uid


def written(folder: Path, fault: Fault) -> list[pydicom.Dataset]:
    """The data sets of a small series that breaks one rule."""
    volume = chest_phantom((10, 48, 48), (20.0, 8.0, 8.0), seed=1).volume
    return [pydicom.dcmread(path) for path in write_ct_series(volume, folder, fault=fault)]


def test_missing_slice(tmp_path):
    """One gap is twice the others."""
    z = [float(ds.ImagePositionPatient[2]) for ds in written(tmp_path, Fault.MISSING_SLICE)]
    assert sorted(set(np.diff(z))) == [20, 40]


def test_duplicate_position(tmp_path):
    """Two instances lie at one place."""
    slices = written(tmp_path, Fault.DUPLICATE_POSITION)
    assert len({tuple(ds.ImagePositionPatient) for ds in slices}) == len(slices) - 1


def test_localizer_among_the_slices(tmp_path):
    """One instance is a localizer, in another plane."""
    slices = written(tmp_path, Fault.LOCALIZER)
    assert [ds.ImageType[2] for ds in slices].count("LOCALIZER") == 1
    assert slices[0].ImageOrientationPatient != slices[1].ImageOrientationPatient


def test_gantry_tilt(tmp_path):
    """The way from slice to slice leaves the slices' normal by 15 degrees."""
    slices = written(tmp_path, Fault.GANTRY_TILT)
    row, column = (np.array(slices[0].ImageOrientationPatient[n : n + 3], dtype=float) for n in (0, 3))
    step = np.subtract(slices[1].ImagePositionPatient, slices[0].ImagePositionPatient)
    cosine = abs(np.cross(row, column) @ step) / np.linalg.norm(step)
    assert np.rad2deg(np.arccos(cosine)) == pytest.approx(15)


def test_what_cannot_be_made_is_said():
    """A shape without voxels, and values that 12 bits cannot hold, are errors."""
    with pytest.raises(PhantomError, match="make no volume"):
        chest_phantom((0, 4, 4), (1.0, 1.0, 1.0), seed=1)
    volume = chest_phantom((4, 16, 16), (20.0, 20.0, 20.0), seed=1).volume
    with pytest.raises(PhantomError, match="do not fit 12 bits"):
        write_ct_series(volume.with_array(volume.array + np.int16(4000)), Path("unused"))
