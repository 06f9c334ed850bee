"""A result to make pages of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from voxfleet.enrich.archives.archive import StoredObject
from voxfleet.enrich.phantom import Phantom, chest_phantom
from voxfleet.enrich.provenance import Activity, CostStatement, Machine
from voxfleet.enrich.radiomics import measure
from voxfleet.enrich.series import Instance
from voxfleet.models import catalogue
from voxfleet.models.segmentation import Segmentation
from voxfleet.runners.consumption import Consumption
from voxfleet.runners.page import Link
from voxfleet.runners.pictures import pictures
from voxfleet.runners.report import SeriesPage

STARTED = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="session")
def phantom() -> Phantom:
    """A chest whose axes run to head, back and left, with an opacity in a lung."""
    return chest_phantom((40, 64, 64), (6.0, 6.0, 6.0), seed=2)


@pytest.fixture(scope="session")
def opacities(phantom: Phantom) -> Segmentation:
    """The phantom's truth in the segments of covid-opacity-hu: lungs, and what is in them."""
    numbers = np.array([0, 0, 1, 2, 0, 0, 3, 4, 5, 6], np.uint8)
    labels = numbers[phantom.truth.labelmap.array]
    return Segmentation(phantom.volume.with_array(labels), catalogue.card("covid-opacity-hu").segments)


@pytest.fixture(scope="session")
def series_page(phantom: Phantom, opacities: Segmentation) -> SeriesPage:
    """All that a page is made of."""
    card = catalogue.card("covid-opacity-hu")
    start = STARTED.timestamp()
    names = ("retrieve", "read", "segment", "measure", "encode", "store")
    stages = tuple(Consumption(name, start + n, 1.0 + n, 2.0, 0.0, 900_000_000) for n, name in enumerate(names))
    seg, sr = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.34"
    activity = Activity(
        key="c" * 64,
        study_instance_uid="1.2.3",
        series_instance_uid="1.2.4",
        modality="CT",
        source="https://user:SECRET@pacs.example/dicom-web",
        used=(Instance("1.2.840.10008.5.1.4.1.1.2", "1.2.5", "a" * 64, 524_288, Path("/in/Doe_Jane/1.dcm")),),
        card=card,
        parameters=card.parameters,
        settings={"segmentation_type": "BINARY"},
        software={"numpy": "2"},
        git_commit=None,
        machine=Machine("node-1", "Linux", "AMD EPYC", 2, 2**34, ("NVIDIA L4",)),
        started=STARTED,
        ended=STARTED + timedelta(seconds=30),
        stages=stages,
        generated=(
            StoredObject(seg, "2.25.1", "2.25.2", "dir:/out/1.dcm", "d" * 64, 1_234_567),
            StoredObject(sr, "2.25.3", "2.25.4", "dir:/out/2.dcm", "e" * 64, 2000, already_there=True),
        ),
        repairs=("gantry tilt of 12.5 degrees resampled",),
        failed_features=("segment 3 shape_Sphericity: <one> voxel",),
        cost=CostStatement(Decimal("0.00029"), "AWS price list", "2026-02-09"),
    )
    return SeriesPage(
        activity,
        phantom.volume,
        opacities,
        measure(phantom.volume, opacities),
        pictures(phantom.volume, opacities, "CT"),
        (Link("measurements.csv", "measurements.csv"), Link("odd", "javascript:alert(1)")),
    )
