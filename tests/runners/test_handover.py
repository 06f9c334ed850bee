"""What one stage leaves for the next comes back equal."""

from __future__ import annotations

from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
from voxfleet.enrich.series import Instance, Series, SourceImage
from voxfleet.models import catalogue
from voxfleet.models.segmentation import Segmentation
from voxfleet.runners.handover import load_image, load_segmentation, save_image, save_segmentation


def test_image_and_segmentation_come_back_equal(tmp_path):
    """Array, affine, headers, frame numbers, repairs and label map survive the disk."""
    affine = np.diag([0.7, 0.8, 2.5, 1.0])[[2, 1, 0, 3]]
    array = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    header = pydicom.Dataset()
    header.SeriesNumber = 7
    image = SourceImage(
        series=Series("1.2", "1.3", "CT", (Instance("1.4", "1.5", "ab", 9, Path("x.dcm")),)),
        volume=hd.Volume(array, affine, "PATIENT", frame_of_reference_uid="1.6"),
        headers=(header,),
        repairs=("straightened",),
        frame_numbers=(3, 1, 2),
    )
    save_image(image, tmp_path)
    loaded = load_image(tmp_path)
    np.testing.assert_array_equal(loaded.volume.array, array)
    np.testing.assert_array_equal(loaded.volume.affine, affine)
    assert loaded.volume.array.dtype == np.int16
    assert loaded.volume.frame_of_reference_uid == "1.6"
    assert (loaded.series, loaded.headers, loaded.repairs, loaded.frame_numbers) == (
        image.series,
        (header,),
        ("straightened",),
        (3, 1, 2),
    )
    segments = catalogue.card("ct-threshold").segments
    labels = (array % 3).astype(np.uint8)
    save_segmentation(Segmentation(image.volume.with_array(labels), segments), tmp_path)
    np.testing.assert_array_equal(load_segmentation(tmp_path, loaded, segments).labelmap.array, labels)
