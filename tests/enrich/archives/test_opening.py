"""URIs, and what must never stand in them."""

from __future__ import annotations

import pickle
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from voxfleet import Error
from voxfleet.enrich.archives import opening
from voxfleet.enrich.archives.address import BadArchiveUri
from voxfleet.enrich.archives.credentials import BadCredentials
from voxfleet.enrich.archives.opening import UnknownArchive, open_archive


@pytest.mark.parametrize("uri", ["dir:{}/a b", "{}/a b"])
def test_folders(tmp_path: Path, uri: str) -> None:
    """``dir:PATH`` and a bare path are the folder, which need not be there yet."""
    assert open_archive(uri.format(tmp_path)).uri == f"dir:{tmp_path}/a b"


def test_a_relative_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that runs elsewhere must find the same folder: the URI holds the absolute path."""
    monkeypatch.chdir(tmp_path)
    assert (
        open_archive("dir:data").uri == open_archive("data").uri == open_archive("./data").uri == f"dir:{tmp_path}/data"
    )


@pytest.mark.parametrize(
    "uri", ["dicomweb+https://host/dicom-web", "https://host/dicom-web/", "https://host/dicom-web"]
)
def test_dicomweb(uri: str) -> None:
    """The four ways to write a DICOMweb address give one URI, which opens the same archive again."""
    archive = open_archive(uri)
    assert archive.uri == "dicomweb+https://host/dicom-web"
    assert open_archive(archive.uri).uri == archive.uri


@pytest.mark.parametrize("uri", ["azure://bucket", "ftp://host/x", "dicomweb:host"])
def test_unknown_kinds(uri: str) -> None:
    """An unknown scheme is an error that names it and lists what there is."""
    with pytest.raises(UnknownArchive, match=r"dicomweb\+https.*dir") as caught:
        open_archive(uri)
    assert repr(uri.partition(":")[0]) in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize(
    "uri", ["https://user:s3cret@host/dicom-web", "dicomweb+http://user:s3cret@host", "http://s3cret@host"]
)
def test_credentials_in_a_uri(uri: str) -> None:
    """A URI with user or password is refused with advice, and the message holds neither."""
    with pytest.raises(BadArchiveUri, match="VOXFLEET_DICOMWEB_USER") as caught:
        open_archive(uri)
    assert "s3cret" not in str(caught.value) + repr(caught.value)
    assert "user:" not in str(caught.value)


@pytest.mark.parametrize("uri", ["https://host/x?token=s3cret", "https://host/x#s3cret", "https:///x", "dir:"])
def test_addresses_that_are_none(uri: str) -> None:
    """A query, a fragment, no host, no path: refused without repeating what might be a secret."""
    with pytest.raises(BadArchiveUri) as caught:
        open_archive(uri)
    assert "s3cret" not in str(caught.value)


def test_a_file_is_no_archive(tmp_path: Path) -> None:
    """A path that is a file is refused at once."""
    (tmp_path / "x.dcm").touch()
    with pytest.raises(BadArchiveUri, match="is a file"):
        open_archive(str(tmp_path / "x.dcm"))


def test_archives_of_other_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry point of the group voxfleet.archives opens URIs of its scheme."""
    offered = EntryPoint("xnat", f"{__name__}:opened", opening.ENTRY_POINTS)
    monkeypatch.setattr(opening, "entry_points", lambda group: [offered] if group == "voxfleet.archives" else [])
    monkeypatch.setattr(EntryPoint, "load", lambda self: lambda uri: f"{self.name} opened {uri}")
    assert open_archive("xnat://host/project") == "xnat opened xnat://host/project"
    with pytest.raises(UnknownArchive, match="xnat"):
        open_archive("other://host")


@pytest.mark.parametrize(
    "given",
    [
        {"USER": "u"},
        {"PASSWORD": "s3cret"},
        {"USER": "u", "PASSWORD": "s3cret", "TOKEN": "s3cret"},
        {"TOKEN": "s3cret", "TOKEN_FILE": "/x"},
    ],
)
def test_credentials_by_halves(monkeypatch: pytest.MonkeyPatch, given: dict[str, str]) -> None:
    """A user without password, or two kinds of credentials, are refused when the archive is opened."""
    for name, value in given.items():
        monkeypatch.setenv(f"VOXFLEET_DICOMWEB_{name}", value)
    with pytest.raises(BadCredentials) as caught:
        open_archive("https://host/dicom-web")
    assert isinstance(caught.value, Error)
    assert "s3cret" not in str(caught.value)


def test_helps_name_every_kind_of_archive() -> None:
    """The words that commands show name each scheme, and those that can be written to are a part of them."""
    usual = {"dir", "http", "https"} | {each for each in opening._BUILT_IN if each.endswith("+http")}
    assert [each for each in opening._BUILT_IN if each not in usual and f"{each}:" not in opening.READABLE] == []
    written = {each for each in opening._BUILT_IN if each not in usual and f"{each}:" in opening.WRITABLE}
    assert set(opening._BUILT_IN) - usual - written == {"idc", "nbia+https"}
