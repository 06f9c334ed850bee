"""A generated chest CT of known anatomy, and its DICOM series: for demos, tests and benchmarks.

It has the shapes and densities that rules and measurements care about (body, lungs with
vessels, trachea with main bronchi, bone with marrow, a table), in millimetres whatever the
voxels, and is no model of anybody. Every object is marked: Patient's Name ``PHANTOM^...``,
Quality Control Image (0028,0300) ``YES``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.sr.coding import Code
from pydicom.uid import PYDICOM_IMPLEMENTATION_UID, UID, CTImageStorage, ExplicitVRLittleEndian

from .. import Error, __version__
from ..models import codes
from ..models.segmentation import Segment, Segmentation
from .identity import derived_uid
from .phantom_anatomy import CONSOLIDATION_BALL, GROUND_GLASS_BALL, Opacity, paint_chest

NOISE_HU = 15.0
"""Standard deviation of the noise of every voxel."""
STORED_OFFSET = 1024
"""Stored value of 0 HU; 12 bits hold -1024 to 3071 HU."""
GANTRY_TILT_DEGREES = 15.0


class PhantomError(Error):
    """A phantom, or a series of one, that cannot be made as asked."""

    code = "PHANTOM_ERROR"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


@dataclass(frozen=True, slots=True, eq=False)
class Phantom:
    """Volume of int16 Hounsfield units, and the label map it was made from, on one grid."""

    volume: hd.Volume
    truth: Segmentation


class Fault(Enum):
    """A rule that a written series breaks, by the reason for which it is refused."""

    GANTRY_TILT = "GANTRY_TILT"
    MISSING_SLICE = "MISSING_SLICE"
    DUPLICATE_POSITION = "DUPLICATE_POSITION"
    LOCALIZER = "LOCALIZER"


@dataclass(frozen=True, slots=True)
class CtIdentity:
    """Who and what a written series says it is."""

    patient_id: str
    study_instance_uid: str
    series_instance_uid: str
    frame_of_reference_uid: str
    series_number: int = 2

    @classmethod
    def named(cls, name: str, *, study: str | None = None, series_number: int = 2) -> CtIdentity:
        """The identity that a name always gives; series of one `study` share patient, study and frame."""
        shared = study or name
        return cls(
            patient_id=f"PHANTOM-{shared}"[:64],
            study_instance_uid=derived_uid(shared, "phantom.study"),
            series_instance_uid=derived_uid(f"{name}/{series_number}", "phantom.series"),
            frame_of_reference_uid=derived_uid(shared, "phantom.frame"),
            series_number=series_number,
        )


def chest_phantom(
    shape: tuple[int, int, int] = (40, 96, 96),
    spacing_mm: tuple[float, float, float] = (6.0, 4.0, 4.0),
    *,
    seed: int,
    opacities: tuple[Opacity, ...] = (GROUND_GLASS_BALL, CONSOLIDATION_BALL),
) -> Phantom:
    """A chest in the middle of a volume whose axes run to head, back and left.

    Parameters
    ----------
    shape : tuple of int
        Voxels along (k, j, i) = (slice, row, column).
    spacing_mm : tuple of float
        Along the same axes. The chest is 320 mm wide and 220 mm deep; the lungs are 220 mm high.
    seed : int
        Of noise and vessels, and of a few per cent of the chest's size.
    opacities : tuple of Opacity
        None for a healthy lung.
    """
    if min(shape) < 2 or min(spacing_mm) <= 0:  # noqa: PLR2004
        raise PhantomError(f"shape {shape} and spacing {spacing_mm} mm make no volume")
    random = np.random.default_rng(seed)
    hounsfield, labels = paint_chest(shape, spacing_mm, random, opacities)
    hounsfield += random.standard_normal(shape, dtype=np.float32) * NOISE_HU
    array = np.rint(np.clip(hounsfield, -STORED_OFFSET, 3071)).astype(np.int16)
    affine = _affine(shape, spacing_mm)
    volume = hd.Volume(array, affine, "PATIENT", frame_of_reference_uid=derived_uid(f"seed {seed}", "phantom.frame"))
    return Phantom(volume, Segmentation(volume.with_array(labels), truth_segments()))


def truth_segments() -> tuple[Segment, ...]:
    """The segments of every phantom's truth, coded as the models code theirs."""
    organ, finding = codes.ANATOMICAL_STRUCTURE, codes.MORPHOLOGICALLY_ABNORMAL_STRUCTURE
    rows: tuple[tuple[str, Code, Code, Code | None, tuple[int, ...]], ...] = (
        ("Body", organ, codes.ENTIRE_BODY, None, (2, 3, 4, 5, 6, 7, 8, 9)),
        ("Right Lung", organ, codes.LUNG, codes.RIGHT, (6, 7)),
        ("Left Lung", organ, codes.LUNG, codes.LEFT, (8, 9)),
        ("Trachea and Bronchi", organ, codes.TRACHEA_AND_BRONCHUS, None, ()),
        ("Bone", organ, codes.BONE, None, ()),
        ("Ground Glass Opacity of Right Lung", finding, codes.GROUND_GLASS_OPACITY, codes.RIGHT, ()),
        ("Consolidation of Right Lung", finding, codes.LUNG_CONSOLIDATION, codes.RIGHT, ()),
        ("Ground Glass Opacity of Left Lung", finding, codes.GROUND_GLASS_OPACITY, codes.LEFT, ()),
        ("Consolidation of Left Lung", finding, codes.LUNG_CONSOLIDATION, codes.LEFT, ()),
    )
    return tuple(
        Segment(
            number=number,
            label=label,
            name=label.lower().replace(" ", "_"),
            category=category,
            type=kind,
            color=(40 + 20 * number, 120, 255 - 20 * number),
            laterality=side,
            anatomic_region=codes.LUNG if category == finding else None,
            contains=contains,
        )
        for number, (label, category, kind, side, contains) in enumerate(rows, start=1)
    )


def write_ct_series(
    volume: hd.Volume,
    folder: Path,
    *,
    identity: CtIdentity | None = None,
    transfer_syntax: str = ExplicitVRLittleEndian,
    fault: Fault | None = None,
) -> list[Path]:
    """Single-frame CT Image Storage files (PS3.3 A.3), one per slice, in the order of k.

    Parameters
    ----------
    volume : highdicom.Volume
        int16 Hounsfield units in [-1024, 3071], any orientation; affine to LPS mm.
    folder : Path
        Made if it is not there; files are named ``0001.dcm``, ...
    identity : CtIdentity, optional
        UIDs and patient; without it, one derived from the voxels, so that equal volumes give equal files.
    transfer_syntax : str
        UID; any that pydicom's plug-ins encode.
    fault : Fault, optional
        A rule for the series to break.

    Raises
    ------
    PhantomError
        If 12 bits do not hold the values, or there are too few slices for the fault.
    """
    array = volume.array
    if array.min() < -STORED_OFFSET or array.max() > 3071:  # noqa: PLR2004
        raise PhantomError(f"values {array.min()} to {array.max()} HU do not fit 12 bits from {-STORED_OFFSET}")
    if identity is None:
        digest = hashlib.sha256(np.ascontiguousarray(array).tobytes() + volume.affine.tobytes())
        identity = CtIdentity.named(digest.hexdigest()[:16])
    slices = [_slice(volume, k, identity) for k in range(len(array))]
    if fault is not None:
        _break(slices, fault, volume)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, dataset in enumerate(slices, start=1):
        if transfer_syntax != dataset.file_meta.TransferSyntaxUID:
            dataset.compress(UID(transfer_syntax), generate_instance_uid=False)
        path = folder / f"{number:04d}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def _affine(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> NDArray[np.float64]:
    """Index (k, j, i) to LPS mm: k to the head (+z), j to the back (+y), i to the left (+x), middle at 0."""
    affine = np.zeros((4, 4))
    for row, axis in enumerate((2, 1, 0)):
        affine[row, axis] = spacing_mm[axis]
        affine[row, 3] = -spacing_mm[axis] * (shape[axis] - 1) / 2
    affine[3, 3] = 1
    return affine


def _slice(volume: hd.Volume, k: int, identity: CtIdentity) -> FileDataset:
    """One instance with uncompressed pixels."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = UID(derived_uid(identity.series_instance_uid, f"phantom.instance.{k}"))
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    dataset = FileDataset("", Dataset(), file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    _describe(dataset, identity)
    directions, spacing = volume.unit_vectors(), volume.spacing
    dataset.InstanceNumber = k + 1
    dataset.ImagePositionPatient = _decimals(volume.affine[:3, 0] * k + volume.affine[:3, 3])
    dataset.ImageOrientationPatient = _decimals(np.concatenate([directions[2], directions[1]]))
    dataset.PixelSpacing = _decimals(np.array([spacing[1], spacing[2]]))
    dataset.SliceThickness = _decimals(np.array([spacing[0]]))[0]
    stored = np.ascontiguousarray(volume.array[k].astype(np.int32) + STORED_OFFSET, dtype="<u2")
    dataset.Rows, dataset.Columns = stored.shape
    dataset.PixelData = stored.tobytes()
    return dataset


def _describe(dataset: Dataset, identity: CtIdentity) -> None:
    """Attributes that all slices share."""
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.StudyDate, dataset.StudyTime = "20000101", "000000"
    dataset.ContentDate, dataset.ContentTime = "20000101", "000000"
    dataset.AccessionNumber = dataset.ReferringPhysicianName = ""
    dataset.Modality = "CT"
    dataset.Manufacturer, dataset.ManufacturerModelName = "Voxfleet", "chest phantom"
    dataset.DeviceSerialNumber, dataset.SoftwareVersions = "0", __version__
    dataset.StudyDescription = dataset.SeriesDescription = "Generated chest phantom"
    dataset.PatientName = f"PHANTOM^{identity.patient_id.removeprefix('PHANTOM-')}"[:64]
    dataset.PatientID = identity.patient_id
    dataset.PatientBirthDate = dataset.PatientSex = ""
    dataset.BodyPartExamined = "CHEST"
    dataset.KVP = "120"
    dataset.PatientPosition = "HFS"
    dataset.StudyInstanceUID = identity.study_instance_uid
    dataset.SeriesInstanceUID = identity.series_instance_uid
    dataset.FrameOfReferenceUID = identity.frame_of_reference_uid
    dataset.StudyID, dataset.SeriesNumber, dataset.AcquisitionNumber = "1", identity.series_number, 1
    dataset.PositionReferenceIndicator = ""
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = str(-STORED_OFFSET), "1", "HU"
    dataset.QualityControlImage = "YES"
    dataset.BurnedInAnnotation = "NO"


def _break(slices: list[FileDataset], fault: Fault, volume: hd.Volume) -> None:
    """Make the slices break a rule, in place."""
    if len(slices) < 4:  # noqa: PLR2004
        raise PhantomError(f"{len(slices)} slices are too few for {fault.value}")
    middle = len(slices) // 2
    if fault is Fault.MISSING_SLICE:
        del slices[middle]
    elif fault is Fault.DUPLICATE_POSITION:
        slices[middle].ImagePositionPatient = slices[middle - 1].ImagePositionPatient
    elif fault is Fault.LOCALIZER:
        slices[0].ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        del slices[0].RescaleType  # PS3.3 C.8.2.1: an original localizer is not in HU
        directions = volume.unit_vectors()
        slices[0].ImageOrientationPatient = _decimals(np.concatenate([directions[2], -directions[0]]))
    else:
        tilt = np.deg2rad(GANTRY_TILT_DEGREES)
        directions = volume.unit_vectors()
        down = directions[1] * np.cos(tilt) + directions[0] * np.sin(tilt)
        for dataset in slices:
            dataset.GantryDetectorTilt = _decimals(np.array([GANTRY_TILT_DEGREES]))[0]
            dataset.ImageOrientationPatient = _decimals(np.concatenate([directions[2], down]))


def _decimals(values: NDArray[np.floating]) -> list[str]:
    """Decimal strings (VR DS) of at most 16 characters."""
    return [f"{value:.9g}"[:16] for value in (float(each) + 0.0 for each in values)]
