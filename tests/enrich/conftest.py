"""Series for tests: from files that exist, and written slice by slice with a known geometry."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, FileMetaDataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pydicom.valuerep import format_number_as_ds
from voxfleet.enrich.series import Instance, Series

STUDY_UID = "1.2.826.0.1.3680043.8.498.1"
SERIES_UID = "1.2.826.0.1.3680043.8.498.2"
FRAME_OF_REFERENCE_UID = "1.2.826.0.1.3680043.8.498.3"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)

SeriesOf = Callable[[Iterable[Path]], Series]
WriteCt = Callable[..., list[Path]]


def _series_of(files: Iterable[Path]) -> Series:
    instances, first = [], None
    for path in files:
        data = path.read_bytes()
        try:
            header: Dataset = dcmread(path, stop_before_pixels=True)
        except (InvalidDicomError, EOFError):
            header = Dataset()
        first = first or header
        uids = (str(header.get("SOPClassUID", "")), str(header.get("SOPInstanceUID", "")))
        instances.append(Instance(*uids, hashlib.sha256(data).hexdigest(), len(data), path))
    first = first or Dataset()
    keys = (str(first.get(keyword, "")) for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "Modality"))
    return Series(*keys, tuple(instances))


def ct_header(position: Sequence[float], orientation: Sequence[float], spacing: Sequence[float]) -> Dataset:
    """A CT slice without pixels whose patient has a name to look for in messages."""
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = CTImageStorage
    header.StudyInstanceUID, header.SeriesInstanceUID = STUDY_UID, SERIES_UID
    header.FrameOfReferenceUID = FRAME_OF_REFERENCE_UID
    header.Modality = "CT"
    header.PatientName, header.PatientID, header.PatientBirthDate = "Roe^Jane", "MRN-4711", "19700203"
    header.StudyDate = "20200102"
    header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    header.ImagePositionPatient = [format_number_as_ds(float(v)) for v in position]
    header.ImageOrientationPatient = [format_number_as_ds(float(v)) for v in orientation]
    header.PixelSpacing = [format_number_as_ds(float(v)) for v in spacing]
    header.RescaleSlope, header.RescaleIntercept = 1, 0
    return header


@pytest.fixture
def series_of() -> SeriesOf:
    """Series of given files, as an archive would hand it over."""
    return _series_of


@pytest.fixture
def write_ct(tmp_path: Path) -> WriteCt:
    """Writer of single-frame CT: stored values (k, j, i), one position for each k; gives the paths."""

    def write(
        stored: NDArray[Any],
        positions: Sequence[Sequence[float]],
        *,
        orientation: Sequence[float] = AXIAL,
        spacing: Sequence[float] = (1.0, 1.0),
        changes: Mapping[str, object] | None = None,
    ) -> list[Path]:
        paths = []
        for number, (plane, position) in enumerate(zip(stored, positions, strict=True), start=1):
            header = ct_header(position, orientation, spacing)
            header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = f"{SERIES_UID}.{number}"
            header.InstanceNumber = number
            header.Rows, header.Columns = plane.shape
            header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
            header.BitsAllocated = header.BitsStored = 8 * plane.dtype.itemsize
            header.HighBit = header.BitsStored - 1
            header.PixelRepresentation = int(np.issubdtype(plane.dtype, np.signedinteger))
            for keyword, value in (changes or {}).items():
                setattr(header, keyword, value)
            header.PixelData = plane.tobytes()
            header["PixelData"].VR = "OW"
            paths.append(tmp_path / f"slice{number:03d}.dcm")
            header.save_as(paths[-1], enforce_file_format=True)
        return paths

    return write


@pytest.fixture(scope="session")
def hard_data(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real series that converters fail on, and one series in five transfer syntaxes (dicom2nifti's test data)."""
    folder = tmp_path_factory.mktemp("hard")
    with tarfile.open(shared_data / "hard" / "dicom2nifti-failing-and-compressed.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder
