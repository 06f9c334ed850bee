"""Searches of a DICOM node that tells less at first than it holds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydicom import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind  # type: ignore[attr-defined]
from voxfleet.enrich.archives.archive import SeriesEntry
from voxfleet.enrich.archives.dimse import archive as dimse
from voxfleet.enrich.archives.dimse.archive import DimseArchive
from voxfleet.enrich.archives.http_session import Patience


@pytest.mark.parametrize(("empty", "found"), [(0, ["1.2.2"]), (1, ["1.2.2"]), (2, [])])
def test_a_study_without_series_is_asked_again(empty: int, found: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A study of which no series is told is asked for them once more, as Orthanc needs after a store."""
    monkeypatch.setattr(dimse, "AGAIN_S", 0.01)
    asked: list[str] = []

    def answer(event: evt.Event) -> Iterator[tuple[int, Dataset]]:
        level = event.identifier.QueryRetrieveLevel
        asked.append(level)
        match = Dataset()
        match.QueryRetrieveLevel, match.StudyInstanceUID = level, "1.2.1"
        match.SeriesInstanceUID, match.Modality, match.NumberOfSeriesRelatedInstances = "1.2.2", "CT", "3"
        if level == "STUDY" or asked.count("SERIES") > empty:
            yield 0xFF00, match

    node = AE("NODE")
    node.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    server = node.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_FIND, answer)])
    try:
        patience = Patience(connect_s=60.0, retries=0)
        archive = DimseArchive(f"dimse://NODE@127.0.0.1:{server.server_address[1]}", patience)
        entries = list(archive.search())
    finally:
        server.shutdown()
    assert [each.series_instance_uid for each in entries if isinstance(each, SeriesEntry)] == found
    assert asked == ["STUDY", *["SERIES"] * min(empty + 1, 2)]
