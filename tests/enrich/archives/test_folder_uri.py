"""A folder archive has one URI, however its path is written."""

from __future__ import annotations

from voxfleet.enrich.archives.opening import open_archive


def test_a_relative_path_with_parents_names_the_same_archive(tmp_path, monkeypatch):
    """The ledger knows an archive by its URI: ``../ct`` from a sibling folder is ``ct`` from the parent."""
    for name in ("ct", "elsewhere"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    here = open_archive("dir:ct").uri
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert open_archive("dir:../ct").uri == open_archive("../ct/").uri == here
