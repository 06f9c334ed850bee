"""A series segmented by a model, whichever of the two it takes: the volume, or the files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import highdicom as hd
import pydicom
from pydicom.errors import InvalidDicomError

from .. import Error
from ..enrich.archives.archive import SeriesEntry
from ..enrich.archives.folder.archive import FolderArchive
from ..enrich.phantom import write_ct_series
from ..enrich.seg_decode import DecodeError, decode_seg
from ..enrich.series import SourceImage, read_volume
from ..models.model import Model, NeedsSeries, SeriesModel
from ..models.segmentation import Segmentation


class RepairedSeries(Error):
    """A series that was repaired when it was read, and a model that takes its files, which are as they were."""

    code = "REPAIRED_SERIES"
    refused = True

    def __init__(self, series_instance_uid: str, model: str, repairs: tuple[str, ...]) -> None:
        super().__init__(series_instance_uid, model, repairs)

    def __str__(self) -> str:
        series, model, repairs = self.args
        return f"series {series} was repaired ({'; '.join(repairs)}); {model} takes its files, which are as they were"


def segment_image(model: Model, image: SourceImage, parameters: Mapping[str, str]) -> Segmentation:
    """Segmentation of a series that was read.

    Raises
    ------
    RepairedSeries
        If its files are not what was read, and the model takes files.
    ModelError, DecodeError
        If the model makes no segmentation of it; if it leaves a SEG that cannot be read.
    """
    if not isinstance(model, SeriesModel):
        return model.segment(image.volume, parameters)
    if image.repairs:
        raise RepairedSeries(image.series.series_instance_uid, model.card.name, image.repairs)
    files = [instance.path for instance in image.series.instances]
    return model.segment_series(files, image.volume, parameters, read_seg)


def segment_made_up(model: Model, volume: hd.Volume, parameters: Mapping[str, str]) -> Segmentation:
    """Segmentation of a volume that was made up; written as a CT series first for a model that takes files.

    Raises
    ------
    NeedsSeries
        If the model takes files, and not those of CT.
    """
    if not isinstance(model, SeriesModel):
        return model.segment(volume, parameters)
    if "CT" not in model.card.modality:
        raise NeedsSeries(model.card.name, "series can be made up for CT alone: try it with `voxfleet run`")
    with TemporaryDirectory() as folder:
        write_ct_series(volume, Path(folder))
        archive = FolderArchive(Path(folder))
        (entry,) = (each for each in archive.search() if isinstance(each, SeriesEntry))
        return segment_image(model, read_volume(archive.retrieve(entry, Path(folder))), parameters)


def read_seg(path: Path, volume: hd.Volume) -> Segmentation:
    """The segmentation of a SEG file on the grid of a volume; written by a program of others, so nothing is believed.

    Raises
    ------
    DecodeError
        If it is no SEG, lies in another frame of reference, or its frames do not lie on that grid.
    """
    try:
        dataset = pydicom.dcmread(path)
        if dataset.get("Modality") != "SEG":
            raise DecodeError(str(dataset.get("SOPInstanceUID")), "is no SEG")
        if dataset.get("FrameOfReferenceUID") != volume.frame_of_reference_uid:
            raise DecodeError(str(dataset.SOPInstanceUID), "lies in another frame of reference than the series")
        return decode_seg(dataset, volume)
    except InvalidDicomError as exc:
        raise DecodeError("", "the file is no DICOM") from exc
    except (AttributeError, KeyError, IndexError, ValueError, TypeError) as exc:
        raise DecodeError(str(dataset.get("SOPInstanceUID")), f"cannot be read: {type(exc).__name__}") from exc
