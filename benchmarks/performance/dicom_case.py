"""The realistic case as DICOM: its series on disk, read, with the model that its structures stand for."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import highdicom as hd
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, JPEGLosslessSV1

from ...enrich.encoding.equipment import Producer
from ...enrich.phantom import write_ct_series
from ...enrich.series import Instance, Series, SourceImage, read_volume
from ...models.model import ModelCard
from ...models.segmentation import Segmentation
from .harness import run_program
from .realistic_case import EXAMPLE, SIZES, RealisticCase, make_case

CACHE = Path(tempfile.gettempdir()) / "voxfleet-benchmarks"
ENHANCED = "enhanced"
"""The uncompressed series as one multi-frame instance."""
SYNTAXES = {"uncompressed": ExplicitVRLittleEndian, "jpeg-lossless": JPEGLosslessSV1}


@dataclass(frozen=True, slots=True, eq=False)
class DicomCase:
    """What SEG and SR are written from."""

    folder: Path
    source: SourceImage
    segmentation: Segmentation
    producer: Producer


def load_case() -> RealisticCase:
    """512 x 512 x 300 with 104 structures, kept between runs."""
    return make_case(SIZES["full"], EXAMPLE, CACHE)


def dicom_case() -> DicomCase:
    """The full case, uncompressed."""
    case = load_case()
    folder = series_folder(case, "uncompressed")
    source = read_volume(series_in(folder))
    segmentation = Segmentation(source.volume.with_array(case.segmentation.labelmap.array), case.segmentation.segments)
    return DicomCase(folder, source, segmentation, Producer("ab" * 32, card_of(segmentation), {}))


def series_folder(case: RealisticCase, syntax: str) -> Path:
    """Folder of the series as one of `SYNTAXES` or `ENHANCED`, written once; JPEG Lossless by dcmcjpeg."""
    size = "x".join(str(length) for length in case.volume.array.shape)
    folder = CACHE / f"{size}-{syntax}"
    if folder.is_dir():
        return folder
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    if syntax == "uncompressed":
        write_ct_series(case.volume, part)
    elif syntax == ENHANCED:
        part.mkdir(parents=True)
        _write_enhanced(series_folder(case, "uncompressed"), part / "enhanced.dcm")
    else:
        part.mkdir(parents=True)
        for path in sorted(series_folder(case, "uncompressed").iterdir()):
            run_program("dcmcjpeg", "+e1", path, part / path.name)
    part.rename(folder)
    return folder


def _write_enhanced(folder: Path, path: Path) -> None:
    """The series as one Legacy Converted Enhanced CT, by highdicom."""
    slices = [dcmread(each) for each in sorted(folder.iterdir())]
    for each in slices:
        for keyword in ("AccessionNumber", "ReferringPhysicianName"):  # Type 2, which highdicom copies.
            each.setdefault(keyword, "")
    series, instance = (f"{slices[0].SeriesInstanceUID}.{last}" for last in (1, 2))
    hd.legacy.LegacyConvertedEnhancedCTImage(slices, series, 1, instance, 1).save_as(path, enforce_file_format=True)


def series_in(folder: Path) -> Series:
    """The series of a folder, as an archive hands it over."""
    instances = []
    for path in sorted(folder.iterdir()):
        header = dcmread(path, stop_before_pixels=True)
        uids = (str(header.SOPClassUID), str(header.SOPInstanceUID))
        instances.append(Instance(*uids, sha256="", bytes=path.stat().st_size, path=path))
    return Series(str(header.StudyInstanceUID), str(header.SeriesInstanceUID), "CT", tuple(instances))


def card_of(segmentation: Segmentation) -> ModelCard:
    """A model that finds these segments."""
    return ModelCard(
        name="benchmark",
        version="1",
        description="The structures of the realistic case.",
        intended_use="Benchmarks.",
        modality=("CT",),
        body_part="CHEST",
        algorithm_family="RULES",
        segments=segmentation.segments,
        weights=(),
        parameters={},
        memory_bytes=0,
        gpu_bytes=0,
        code_licence="Apache-2.0",
        weights_licence="none",
        citations=(),
    )
