"""Licences and citations of a run's sources."""

from __future__ import annotations

import csv
from pathlib import Path

from voxfleet.cluster.run_folder import RunFolder
from voxfleet.cluster.sources import citations, keep_sources
from voxfleet.enrich.archives.archive import SeriesEntry

TOLD = (
    SeriesEntry("1", "1.1", "CT", 3, 30, "CC BY 4.0", "10.7937/a"),
    SeriesEntry("1", "1.2", "CT", 4, 40, "CC BY 4.0", "10.7937/a"),
    SeriesEntry("1", "1.3", "CT", 5, 50, "CC BY-NC 3.0", "10.7937/b"),
)


def test_every_source_series_is_kept_with_licence_and_doi(tmp_path: Path) -> None:
    """One row for each series, refused ones too, marked; what was used is to be cited, once for each DOI."""
    folder = RunFolder(f"{tmp_path}/run")
    folder.path.mkdir()
    keep_sources(folder, "idc:nlst@25.0.5", TOLD, ("CC-BY",))
    with (folder.path / "sources.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["series_instance_uid"], row["licence"], row["doi"], row["allowed"]) for row in rows] == [
        ("1.1", "CC BY 4.0", "10.7937/a", "yes"),
        ("1.2", "CC BY 4.0", "10.7937/a", "yes"),
        ("1.3", "CC BY-NC 3.0", "10.7937/b", "no"),
    ]
    lines = citations(folder)
    assert lines[:2] == (
        "source: idc:nlst@25.0.5",
        "2 series under CC BY 4.0: cite https://doi.org/10.7937/a",
    )
    assert len(lines) == 3
    assert "10.1148/rg.230180" in lines[2]


def test_data_sets_of_the_idc_are_cited_in_full(tmp_path: Path) -> None:
    """Authors, year, title, repository and DOI, as doi.org gives NLST's and TotalSegmentator's results for it."""
    folder = RunFolder(f"{tmp_path}/run")
    folder.path.mkdir()
    told = (
        SeriesEntry("1", "1.1", "CT", 3, 30, "CC BY 4.0", "10.7937/TCIA.HMQ8-J677"),
        SeriesEntry("1", "1.2", "SEG", 1, 10, "CC BY 4.0", "10.5281/zenodo.8347011"),
    )
    keep_sources(folder, "idc:nlst@25.0.5", told, ())
    results, images = citations(folder)[1:3]
    assert images.startswith(
        "1 series under CC BY 4.0: cite National Lung Screening Trial Research Team. (2013). Data from"
    )
    assert "The Cancer Imaging Archive" in images
    assert images.endswith("https://doi.org/10.7937/TCIA.HMQ8-J677")
    assert results.startswith("1 series under CC BY 4.0: cite Thiriveedhi, V. K., Krishnaswamy, D., Clunie, D.,")
    assert not [each for each in ("<", ">", "&amp;", "\n") if each in results + images]


def test_an_archive_that_names_no_licence_leaves_no_file(tmp_path: Path) -> None:
    """A folder of DICOM files asks for no citation."""
    folder = RunFolder(f"{tmp_path}/run")
    folder.path.mkdir()
    keep_sources(folder, "dir:/data", (), ())
    assert list(folder.path.iterdir()) == []
    assert citations(folder) == ()
