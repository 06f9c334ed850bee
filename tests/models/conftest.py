"""Real chest CTs with a reference by an expert or another tool, as volumes in LPS mm."""

from __future__ import annotations

from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest


def read_nifti(path: Path) -> hd.Volume:
    """A NIfTI file; its affine turned from RAS to LPS."""
    image = nib.load(path)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine
    return hd.Volume(np.asanyarray(image.dataobj).astype(np.int16), affine, "PATIENT")


def read_ct(folder: Path) -> hd.Volume:
    """A regular axial CT series as it stands in its files, k to the head; nothing is checked."""
    slices = sorted((pydicom.dcmread(path) for path in folder.glob("*.dcm")), key=lambda ds: ds.ImagePositionPatient[2])
    array = np.stack([ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept) for ds in slices])
    first, last = (np.array(slices[n].ImagePositionPatient, dtype=float) for n in (0, -1))
    affine = np.eye(4)
    affine[:3, 0] = (last - first) / (len(slices) - 1)
    affine[:3, 1] = np.array(slices[0].ImageOrientationPatient[3:], dtype=float) * float(slices[0].PixelSpacing[0])
    affine[:3, 2] = np.array(slices[0].ImageOrientationPatient[:3], dtype=float) * float(slices[0].PixelSpacing[1])
    affine[:3, 3] = first
    return hd.Volume(array.astype(np.int16), affine, "PATIENT")


def read_gzip_nrrd(path: Path) -> np.ndarray:
    """Array (k, j, i) of a little-endian gzip NRRD of unsigned shorts."""
    import gzip

    header, _, body = path.read_bytes().partition(b"\n\n")
    fields = dict(line.split(": ", 1) for line in header.decode().splitlines() if ": " in line)
    assert (fields["type"], fields["endian"], fields["encoding"]) == ("unsigned short", "little", "gzip")
    shape = [int(size) for size in fields["sizes"].split()]
    return np.frombuffer(gzip.decompress(body), dtype="<u2").reshape(shape[::-1])


@pytest.fixture(scope="session")
def cip_ct(shared_data: Path) -> hd.Volume:
    """Whole chest, 64x64x79 voxels of about 4 mm (Chest Imaging Platform)."""
    return read_ct(shared_data / "tiny-chest-ct-cip" / "ct-64Dicom")


@pytest.fixture(scope="session")
def cip_lungs(shared_data: Path) -> np.ndarray:
    """The Chest Imaging Platform's own whole-lung mask of `cip_ct`, on its grid."""
    return read_gzip_nrrd(shared_data / "tiny-chest-ct-cip" / "wholeLung-64.nrrd") > 0


@pytest.fixture(scope="session")
def abdomen_ct(shared_data: Path) -> hd.Volume:
    """Abdomen with the lungs' bases, 122x101x112 voxels of 3 mm, axes to right, front and head."""
    return read_nifti(shared_data / "totalsegmentator-example" / "example_ct.nii.gz")


@pytest.fixture(scope="session")
def abdomen_labels(shared_data: Path) -> np.ndarray:
    """TotalSegmentator's label map of `abdomen_ct`, on its grid; numbers of its class map `total`."""
    name = "example_seg_fast_force_split.nii.gz"
    return read_nifti(shared_data / "totalsegmentator-example" / name).array


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """2|A∩B| / (|A| + |B|)."""
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))
