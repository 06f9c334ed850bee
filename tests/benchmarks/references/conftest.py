"""Images without pixels for references to lie on, and real series read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import CTImageStorage
from voxfleet.enrich.series import Instance, Series, SourceImage, read_volume

PATIENT, STUDY, SERIES, FRAME = "P-1", "1.2.3.1", "1.2.3.2", "1.2.3.3"
ImageOf = Callable[..., SourceImage]


def _image_of(shape: tuple[int, int, int] = (6, 20, 24), affine: NDArray[np.float64] | None = None) -> SourceImage:
    """Image of zeros: voxels of 2 x 1 x 1 mm (k, j, i), axial, unless an affine is given."""
    affine = np.array([[0, 0, 1, 0], [0, 1, 0, 0], [2, 0, 0, 0], [0, 0, 0, 1]], float) if affine is None else affine
    volume = hd.Volume(np.zeros(shape, np.int16), affine, "PATIENT", FRAME)
    headers = []
    for k in range(shape[0]):
        header = Dataset()
        header.PatientID, header.StudyInstanceUID, header.SeriesInstanceUID = PATIENT, STUDY, SERIES
        header.SOPClassUID, header.SOPInstanceUID = CTImageStorage, f"{SERIES}.{k + 1}"
        header.FrameOfReferenceUID = FRAME
        header.ImagePositionPatient = volume.map_indices_to_reference(np.array([[k, 0, 0]]))[0].tolist()
        headers.append(header)
    instances = tuple(Instance(CTImageStorage, str(h.SOPInstanceUID), "", 0, Path("/nowhere")) for h in headers)
    return SourceImage(Series(STUDY, SERIES, "CT", instances), volume, tuple(headers), (), (1,) * shape[0])


def _read_series(paths: Iterable[Path]) -> SourceImage:
    instances, first = [], Dataset()
    for path in sorted(paths):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        first = first or header
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        instances.append(Instance(str(header.SOPClassUID), str(header.SOPInstanceUID), digest, 0, path))
    series = Series(str(first.StudyInstanceUID), str(first.SeriesInstanceUID), str(first.Modality), tuple(instances))
    return read_volume(series)


@pytest.fixture
def image_of() -> ImageOf:
    """Make an image of a shape and an affine."""
    return _image_of


@pytest.fixture
def image() -> SourceImage:
    """Six axial slices of 20 x 24 pixels, 2 mm apart, pixels of 1 mm; the first voxel's centre is the origin."""
    return _image_of()


@pytest.fixture(scope="session")
def sarcoma(shared_data: Path) -> Path:
    """Folder of the soft-tissue sarcoma STS_002: CT and PET, with the tumour as RTSTRUCT, NIfTI and JSON."""
    return shared_data / "sarcoma-rtstruct-sts002"


@pytest.fixture(scope="session")
def sarcoma_ct(sarcoma: Path) -> SourceImage:
    """Its CT."""
    return _read_series((sarcoma / "dicom" / "CT" / "image").iterdir())


@pytest.fixture(scope="session")
def sarcoma_pet(sarcoma: Path) -> SourceImage:
    """Its PET."""
    return _read_series((sarcoma / "dicom" / "PET" / "image").iterdir())


@pytest.fixture(scope="session")
def breast_folder(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Breast MR with a FRACTIONAL SEG that refers to no series."""
    import tarfile

    folder = tmp_path_factory.mktemp("breast")
    with tarfile.open(shared_data / "breast-mr-fractional-seg" / "UCSF-BR-06.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "UCSF-BR-06"


@pytest.fixture(scope="session")
def breast_mr(breast_folder: Path) -> SourceImage:
    """Its map PE1, sagittal."""
    return _read_series((breast_folder / "image_dce_pe1").iterdir())


@pytest.fixture(scope="session")
def three_slices(shared_data: Path) -> SourceImage:
    """Three CT slices of the liver (dcmqi), too few for `read_volume`."""
    headers = [pydicom.dcmread(path) for path in (shared_data / "dcmqi/segmentations/ct-3slice").iterdir()]
    headers.sort(key=lambda header: float(header.ImagePositionPatient[2]))
    affine = np.eye(4)
    gap = float(headers[1].ImagePositionPatient[2]) - float(headers[0].ImagePositionPatient[2])
    row, column = (float(value) for value in headers[0].PixelSpacing)
    affine[:3, :3] = [[0, 0, column], [0, row, 0], [gap, 0, 0]]
    affine[:3, 3] = headers[0].ImagePositionPatient
    array = np.stack([header.pixel_array for header in headers]).astype(np.int16)
    first = headers[0]
    volume = hd.Volume(array, affine, "PATIENT", first.FrameOfReferenceUID)
    instances = tuple(Instance(h.SOPClassUID, h.SOPInstanceUID, "", 0, Path(h.filename)) for h in headers)
    series = Series(first.StudyInstanceUID, first.SeriesInstanceUID, "CT", instances)
    return SourceImage(series, volume, tuple(headers), (), (1,) * len(headers))
