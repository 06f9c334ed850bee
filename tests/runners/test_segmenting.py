"""A series through an image that takes DICOM and gives a SEG: its voxels, with codes and UIDs of ours."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from voxfleet.enrich.archives.opening import open_archive
from voxfleet.enrich.encoding.equipment import Producer
from voxfleet.enrich.phantom import chest_phantom, write_ct_series
from voxfleet.enrich.seg import encode_seg
from voxfleet.enrich.seg_decode import DecodeError, decode_seg
from voxfleet.enrich.series import SourceImage, read_volume
from voxfleet.models import catalogue
from voxfleet.models.container.label_map import InvalidResult
from voxfleet.models.model import NeedsSeries
from voxfleet.models.segmentation import Segmentation
from voxfleet.runners.segmenting import RepairedSeries, read_seg, segment_image


def _module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


images = _module(Path(__file__).parents[1] / "models" / "container_images.py")
LUNGS = {"Left Lung": "left", "Right Lung": "right"}
"""Segment Labels of the image's SEG, and names on its card: in another order than in the SEG."""
GIVE = """
test "$(ls /data/in | wc -l)" = 24 && test -f /data/in/00024.dcm || exit 11
cp /files/lungs.seg.dcm /data/out/
"""


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated chest CT of 24 slices."""
    folder = tmp_path_factory.mktemp("series")
    write_ct_series(chest_phantom((24, 48, 48), (10.0, 8.0, 8.0), seed=5).volume, folder)
    return folder


@pytest.fixture(scope="module")
def source(series: Path) -> SourceImage:
    """It read."""
    archive = open_archive(str(series))
    (entry,) = archive.search()
    return read_volume(archive.retrieve(entry, series))


@pytest.fixture(scope="module")
def lungs(source: SourceImage) -> Segmentation:
    """Both lungs, and bone, by thresholds."""
    return catalogue.load("ct-threshold").segment(source.volume, {})


@pytest.fixture(scope="module")
def seg(source: SourceImage, lungs: Segmentation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """They as the SEG of another program."""
    path = tmp_path_factory.mktemp("seg") / "lungs.seg.dcm"
    encode_seg(source, lungs, Producer("0" * 64, catalogue.card("ct-threshold"), {})).save_as(
        path, enforce_file_format=True
    )
    return path


def card_of(image: str, **block: Any) -> dict[str, Any]:
    """A card for the lungs of that SEG."""
    others = [each.label for each in catalogue.card("ct-threshold").segments if each.label not in LUNGS]
    taken = {"input": "dicom", "output_kind": "seg", "output": "*.dcm", "labels": LUNGS, "ignored": others}
    return images.card_of(**{"image": image, "script": GIVE, "segments": tuple(LUNGS.values()), **taken, **block})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, seg: Path) -> Iterator[Any]:
    """A store whose image holds the SEG."""
    for store in images.make_store(tmp_path_factory.mktemp("store")):
        (store.folder / "files" / seg.name).write_bytes(seg.read_bytes())
        yield store


@pytest.fixture
def name(store, tmp_path, monkeypatch) -> str:
    """Of the model that is an image with a SEG in it."""
    for key, value in store.environment.items():
        monkeypatch.setenv(key, value)
    return images.write_card(tmp_path / "card", card_of(store.build("lungs"), engine="podman"))


def expected(lungs: Segmentation) -> np.ndarray:
    """Left is 1 and right is 2 on the card."""
    by_label = {segment.label: segment.number for segment in lungs.segments}
    array = lungs.labelmap.array
    return np.select([array == by_label["Left Lung"], array == by_label["Right Lung"]], [1, 2])


@pytest.mark.slow
def test_a_series_through_an_image(name, store, series, lungs, tmp_path):
    """``voxfleet run`` writes a SEG with the image's voxels, the card's codes and UIDs of ours, and an SR of both."""
    command = [sys.executable, "-m", "voxfleet", "run", name, str(series), "-o", str(tmp_path / "out"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = json.loads(done.stdout)["series"]
    (path,) = (tmp_path / "out").glob("*/*.seg.dcm")
    written = pydicom.dcmread(path)
    assert np.array_equal(decode_seg(written, lungs.labelmap).labelmap.array, expected(lungs))
    assert [item.SegmentLabel for item in written.SegmentSequence] == ["Left", "Right"]
    assert written.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeValue == "78961009"
    assert written.SOPInstanceUID.startswith("2.25.")
    assert written.ManufacturerModelName == "container:an-image"
    assert len(record["stored"]) == 2
    assert store.containers() == []
    provenance = next((tmp_path / "out").glob("*/provenance.json")).read_text()
    assert str(tmp_path / "card") not in provenance


@pytest.mark.slow
def test_check_runs_an_image_on_a_made_up_series(name, tmp_path):
    """``voxfleet models check`` gives it DICOM; that the SEG in this image is of another series is found."""
    command = [sys.executable, "-m", "voxfleet", "models", "check", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "the image ended with status 11" in done.stderr


def test_a_volume_is_no_series(name, source):
    """An image that takes DICOM cannot be given a volume."""
    with pytest.raises(NeedsSeries):
        catalogue.load(name).segment(source.volume, {})


def test_a_repaired_series_is_refused(name, source):
    """The files of a series that was resampled are not what is measured."""
    with pytest.raises(RepairedSeries, match="gantry tilt"):
        segment_image(catalogue.load(name), replace(source, repairs=("gantry tilt resampled",)), {})


def test_a_segment_that_the_card_does_not_know(store, name, source, tmp_path):
    """A Segment Label that is neither a label of the card nor ignored is told."""
    image = card_of(store.build("lungs"), engine="podman", ignored=[])
    with pytest.raises(InvalidResult, match="which its card does not know"):
        segment_image(catalogue.load(images.write_card(tmp_path / "other", image)), source, {})


def test_a_seg_of_another_place(seg, source, tmp_path):
    """A SEG in another frame of reference, or on another grid, is not laid over the series."""
    other = chest_phantom((24, 48, 48), (10.0, 8.0, 8.0), seed=6)
    with pytest.raises(DecodeError, match="another frame of reference"):
        read_seg(seg, other.volume)
    smaller = source.volume[:, 1:, :]
    with pytest.raises(DecodeError, match="do not fit a grid"):
        read_seg(seg, smaller)


@pytest.mark.parametrize(("content", "message"), [(b"text", "no DICOM"), (b"", "no DICOM")])
def test_what_is_no_seg(tmp_path, source, content, message):
    """A file that is no DICOM is told as such."""
    (tmp_path / "x.dcm").write_bytes(content)
    with pytest.raises(DecodeError, match=message):
        read_seg(tmp_path / "x.dcm", source.volume)


def test_an_image_of_the_series_is_no_seg(series, source):
    """An image that gives back what it was given."""
    with pytest.raises(DecodeError, match="is no SEG"):
        read_seg(series / "0001.dcm", source.volume)


def test_a_damaged_seg(seg, source, tmp_path):
    """A SEG without its frames' places is refused, whatever the decoder stumbles over."""
    dataset = pydicom.dcmread(seg)
    del dataset.PerFrameFunctionalGroupsSequence
    dataset.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    with pytest.raises(DecodeError, match="cannot be read"):
        read_seg(tmp_path / "x.dcm", source.volume)
