"""The same work done by others: dcmqi, highdicom, dcm2niix and SimpleITK, each as its own documentation does it."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Sequence
from pathlib import Path

import highdicom as hd
import nibabel
import numpy as np
import SimpleITK as sitk  # noqa: N813 - its own name for itself
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian
from radiomics.featureextractor import RadiomicsFeatureExtractor

from ...enrich.features.pyradiomics_engine import SETTINGS
from ...enrich.measurement import Measurement
from ...enrich.radiomics import SegmentFeatures
from ...models.segmentation import Segment
from .dicom_case import DicomCase
from .harness import run_program


def peer(name: str, distribution: str | None = None) -> tuple[str, str]:
    """Name and installed version."""
    return name, importlib.metadata.version(distribution or name.partition(" ")[0])


def write_label_map(case: DicomCase, labels: NDArray[np.generic], path: Path) -> None:
    """Label map as NIfTI in RAS millimetres, on the grid of the source."""
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ case.source.volume.affine @ np.eye(4)[:, [2, 1, 0, 3]]
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(labels.T), affine), path)


def dcmqi_seg_metadata(segments: Sequence[Segment], path: Path) -> None:
    """What itkimage2segimage wants to know of a label map."""
    attributes = [
        {
            "labelID": segment.number,
            "SegmentDescription": segment.name,
            "SegmentLabel": segment.label,
            "SegmentedPropertyCategoryCodeSequence": _triplet(segment.category),
            "SegmentedPropertyTypeCodeSequence": _triplet(segment.type),
            "SegmentAlgorithmType": "AUTOMATIC",
            "SegmentAlgorithmName": "benchmark",
            "recommendedDisplayRGBValue": list(segment.color),
        }
        for segment in segments
    ]
    document = {
        "ContentCreatorName": "benchmark",
        "SeriesDescription": "Segmentation",
        "SeriesNumber": "300",
        "InstanceNumber": "1",
        "segmentAttributes": [attributes],
    }
    path.write_text(json.dumps(document))


def dcmqi_write_seg(labels: Path, metadata: Path, source: Path, out: Path, *options: str) -> None:
    """SEG by dcmqi's itkimage2segimage."""
    arguments = ("--inputImageList", labels, "--inputMetadata", metadata, "--inputDICOMDirectory", source)
    run_program("itkimage2segimage", *arguments, "--outputDICOM", out, *options)


def dcmqi_sr_metadata(case: DicomCase, measurements: Sequence[Measurement], seg: Path, path: Path) -> None:
    """What tid1500writer wants to know: one group a segment."""
    header = dcmread(seg, stop_before_pixels=True, specific_tags=["SOPInstanceUID"])
    groups: dict[int, list[dict[str, object]]] = {}
    for each in measurements:
        item: dict[str, object] = {
            "value": f"{each.value:.9g}",
            "quantity": _triplet(each.concept),
            "units": _triplet(each.unit),
        }
        groups.setdefault(each.segment_number, []).append(item)
    document = {
        "SeriesDescription": "Measurements",
        "SeriesNumber": "301",
        "InstanceNumber": "1",
        "compositeContext": [seg.name],
        "imageLibrary": [each.name for each in sorted(case.folder.iterdir())],
        "observerContext": {"ObserverType": "DEVICE", "DeviceObserverName": "benchmark", "DeviceObserverUID": "1.2.3"},
        "VerificationFlag": "UNVERIFIED",
        "CompletionFlag": "COMPLETE",
        "activitySession": "1",
        "timePoint": "1",
        "Measurements": [
            {
                "TrackingIdentifier": f"segment {number}",
                "ReferencedSegment": number,
                "SourceSeriesForImageSegmentation": case.source.series.series_instance_uid,
                "segmentationSOPInstanceUID": str(header.SOPInstanceUID),
                "Finding": _triplet(case.segmentation.segments[number - 1].category),
                "FindingSite": _triplet(case.segmentation.segments[number - 1].type),
                "measurementItems": items,
            }
            for number, items in groups.items()
        ],
    }
    path.write_text(json.dumps(document))


def dcmqi_write_sr(source: Path, seg: Path, metadata: Path, out: Path) -> None:
    """SR by dcmqi's tid1500writer."""
    folders = ("--inputImageLibraryDirectory", source, "--inputCompositeContextDirectory", seg.parent)
    run_program("tid1500writer", *folders, "--inputMetadata", metadata, "--outputDICOM", out)


def highdicom_seg(case: DicomCase, kind: str, transfer_syntax_uid: str = ExplicitVRLittleEndian) -> Dataset:
    """SEG by highdicom, from the source's headers."""
    algorithm = hd.AlgorithmIdentificationSequence("benchmark", codes.DCM.ArtificialIntelligence, "1")
    descriptions = [
        hd.seg.SegmentDescription(s.number, s.label, s.category, s.type, "AUTOMATIC", algorithm)
        for s in case.segmentation.segments
    ]
    return hd.seg.Segmentation(
        source_images=list(case.source.headers),
        pixel_array=case.segmentation.labelmap.array,
        segmentation_type=kind,
        segment_descriptions=descriptions,
        series_instance_uid=hd.UID(),
        series_number=300,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="benchmark",
        manufacturer_model_name="benchmark",
        software_versions="1",
        device_serial_number="1",
        transfer_syntax_uid=transfer_syntax_uid,
    )


def highdicom_read_seg(path: Path, case: DicomCase) -> NDArray[np.generic]:
    """Label map (k, j, i) by highdicom, frames in the order of the source's slices."""
    seg = hd.seg.segread(path)
    uids = [str(header.SOPInstanceUID) for header in case.source.headers]
    frames: NDArray[np.generic] = seg.get_pixels_by_source_instance(
        uids, combine_segments=True, assert_missing_frames_are_empty=True, ignore_spatial_locations=True
    )
    return frames


def highdicom_sr(case: DicomCase, seg: Dataset, measurements: Sequence[Measurement]) -> Dataset:
    """SR by highdicom: TID 1500 with one group of TID 1411 a segment."""
    by_number: dict[int, list[hd.sr.Measurement]] = {}
    for each in measurements:
        by_number.setdefault(each.segment_number, []).append(
            hd.sr.Measurement(name=each.concept, value=each.value, unit=each.unit)
        )
    source_series = hd.sr.SourceSeriesForSegmentation(case.source.series.series_instance_uid)
    groups = []
    for number, items in by_number.items():
        segment = case.segmentation.segments[number - 1]
        region = hd.sr.ReferencedSegment(seg.SOPClassUID, seg.SOPInstanceUID, number, source_series=source_series)
        groups.append(
            hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
                tracking_identifier=hd.sr.TrackingIdentifier(hd.UID(), f"segment {number}"),
                referenced_segment=region,
                finding_type=segment.type,
                finding_category=segment.category,
                measurements=items,
            )
        )
    observer = hd.sr.ObserverContext(codes.DCM.Device, hd.sr.DeviceObserverIdentifyingAttributes(hd.UID(), "benchmark"))
    report = hd.sr.MeasurementReport(
        hd.sr.ObservationContext(observer_device_context=observer), codes.LN.CTUnspecifiedBodyRegion, groups
    )
    return hd.sr.EnhancedSR(
        evidence=[*case.source.headers, seg],
        content=report[0],
        series_number=301,
        series_instance_uid=hd.UID(),
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="benchmark",
    )


def highdicom_volume(folder: Path) -> NDArray[np.generic]:
    """Volume (k, j, i) in int16 by highdicom."""
    datasets = [dcmread(path) for path in sorted(folder.iterdir())]
    return hd.get_volume_from_series(datasets, dtype=np.int16).array


def highdicom_enhanced_volume(folder: Path) -> NDArray[np.generic]:
    """Volume (k, j, i) in int16 of a multi-frame instance, by highdicom."""
    return hd.imread(next(folder.iterdir())).get_volume(dtype=np.int16).array


def simpleitk_volume(folder: Path) -> NDArray[np.generic]:
    """Volume (k, j, i) by SimpleITK (GDCM)."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return sitk.GetArrayFromImage(reader.Execute())


def pyradiomics_from_files(image: Path, mask: Path) -> SegmentFeatures:
    """Shape and first-order features by pyradiomics, of one structure, its files read each time."""
    extractor = RadiomicsFeatureExtractor(**SETTINGS)
    extractor.disableAllFeatures()
    for name in ("shape", "firstorder"):
        extractor.enableFeatureClassByName(name)
    found = extractor.execute(str(image), str(mask))
    return {name.removeprefix("original_"): float(value) for name, value in found.items()}


def dcm2niix(folder: Path, out: Path, compress: str = "n") -> Path:
    """NIfTI by dcm2niix; `compress` is its option -z."""
    run_program("dcm2niix", "-z", compress, "-b", "n", "-w", "1", "-f", "volume", "-o", out, folder)
    return next(out.glob("volume*.nii*"))


def _triplet(code: Code) -> dict[str, str]:
    return {"CodeValue": code.value, "CodingSchemeDesignator": code.scheme_designator, "CodeMeaning": code.meaning}
