"""NIfTI label maps, held against SimpleITK's reading of the DICOM and against nibabel."""

from __future__ import annotations

import json
from pathlib import Path

import highdicom as hd
import nibabel
import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray
from voxfleet.enrich.nifti import write_nifti
from voxfleet.enrich.phantom import chest_phantom
from voxfleet.models import catalogue
from voxfleet.models.segmentation import Segmentation

SEGMENTS = catalogue.card("covid-opacity-hu").segments
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


def coded(volume: hd.Volume) -> Segmentation:
    """Labels that no other voxel order or orientation would give."""
    rng = np.random.default_rng(5)
    labels = rng.integers(0, len(SEGMENTS) + 1, volume.spatial_shape, dtype=np.uint8)
    return Segmentation(volume.with_array(labels), SEGMENTS)


def turned(volume: hd.Volume) -> hd.Volume:
    """The volume 20 degrees about the patient's long axis, then 10 about the left-right axis."""
    a, b = np.deg2rad([20.0, 10.0])
    about_z = np.array([[np.cos(a), -np.sin(a), 0, 0], [np.sin(a), np.cos(a), 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    about_x = np.array([[1, 0, 0, 0], [0, np.cos(b), -np.sin(b), 0], [0, np.sin(b), np.cos(b), 0], [0, 0, 0, 1]])
    return hd.Volume(volume.array, about_x @ about_z @ volume.affine, "PATIENT")


@pytest.mark.parametrize(
    "change", [lambda v: v, turned, lambda v: v.flip_spatial([0, 2]), lambda v: turned(v)[:, ::-1]]
)
@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
def test_every_voxel_lies_where_it_lay(change, ending: str, tmp_path: Path) -> None:
    """The RAS position by nibabel of each voxel is the DICOM position of that voxel with x and y negated."""
    segmentation = coded(change(chest_phantom((5, 7, 9), (40.0, 30.0, 35.0), seed=1).volume))
    write_nifti(segmentation, tmp_path / f"x{ending}")
    image = nibabel.load(tmp_path / f"x{ending}")
    values = np.asanyarray(image.dataobj)
    assert values.dtype == np.uint8
    for i, j, k in np.ndindex(values.shape):
        assert values[i, j, k] == segmentation.labelmap.array[k, j, i]
    ijk = np.array(list(np.ndindex(values.shape)))
    lps = segmentation.labelmap.map_indices_to_reference(ijk[:, ::-1])
    for affine in (image.get_sform(), image.get_qform()):
        np.testing.assert_allclose(nibabel.affines.apply_affine(affine, ijk), lps @ LPS_TO_RAS, atol=1e-3)
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 1)
    assert image.header.get_xyzt_units()[0] == "mm"


def simpleitk_points(folder: Path) -> tuple[NDArray[np.float64], tuple[int, int, int]]:
    """LPS points of some voxels (i, j, k), as SimpleITK's reader of the DICOM series places them."""
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    return np.array([image.TransformIndexToPhysicalPoint(index) for index in probes(image.GetSize())]), image.GetSize()


def probes(size: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    """Corners and an inner voxel."""
    i, j, k = (extent - 1 for extent in size)
    return [(0, 0, 0), (i, 0, 0), (0, j, 0), (0, 0, k), (i, j, k), (i // 3, j // 2, k // 4)]


def test_simpleitk_sees_the_same_points_in_both(shared_data: Path, tmp_path: Path) -> None:
    """A real CT read by SimpleITK and our NIfTI read by SimpleITK put each voxel at one physical point."""
    folder = shared_data / "tiny-chest-ct-cip" / "ct-64Dicom"
    points, size = simpleitk_points(folder)
    volume = hd.image.get_volume_from_series([hd.imread(path) for path in sorted(folder.glob("*.dcm"))])
    write_nifti(coded(volume), tmp_path / "x.nii.gz")
    image = SimpleITK.ReadImage(str(tmp_path / "x.nii.gz"))
    assert image.GetSize() == size
    # Both may number the slices from either end: the same point must be the same voxel of the label map.
    for point in points:
        index = image.TransformPhysicalPointToIndex(point.tolist())
        np.testing.assert_allclose(image.TransformIndexToPhysicalPoint(index), point, atol=1e-2)
        nearest = np.rint(volume.map_reference_to_indices(point[None]))[0].astype(int)
        assert tuple(nearest[::-1]) == index


def test_labels_stand_beside(tmp_path: Path) -> None:
    """Number, label, codes and colour of each segment are in a JSON file of the same stem."""
    write_nifti(coded(chest_phantom((3, 8, 8), (60.0, 40.0, 40.0), seed=1).volume), tmp_path / "lungs.nii.gz")
    labels = json.loads((tmp_path / "lungs.json").read_text())
    assert [label["number"] for label in labels] == [1, 2, 3, 4, 5, 6]
    assert labels[1]["label"] == "Left Lung"
    assert labels[1]["laterality"] == {"value": "7771000", "scheme": "SCT", "meaning": "Left"}
    assert {path.name for path in tmp_path.iterdir()} == {"lungs.nii.gz", "lungs.json"}


def test_the_same_label_map_gives_the_same_bytes(tmp_path: Path) -> None:
    """No time of day is in the file."""
    segmentation = coded(chest_phantom((3, 8, 8), (60.0, 40.0, 40.0), seed=1).volume)
    for name in ("a", "b"):
        write_nifti(segmentation, tmp_path / f"{name}.nii.gz")
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_another_ending_is_refused(tmp_path: Path) -> None:
    """A name that no NIfTI reader knows is refused before anything is written."""
    with pytest.raises(ValueError, match=r"x\.mha"):
        write_nifti(coded(chest_phantom((3, 8, 8), (60.0, 40.0, 40.0), seed=1).volume), tmp_path / "x.mha")
    assert list(tmp_path.iterdir()) == []
