"""Messages of several parts, read from connections that cut them anywhere, and written from files."""

from __future__ import annotations

from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from voxfleet.enrich.archives.dicomweb.multipart import StowBody, parts_of

BOUNDARY = "b-1"


class _Answer(requests.Response):
    """An answer whose body comes in given pieces."""

    def __init__(self, pieces: list[bytes], content_type: str) -> None:
        super().__init__()
        self.headers["Content-Type"] = content_type
        self._pieces = pieces

    def iter_content(self, *_: object, **__: object) -> Iterator[bytes]:  # type: ignore[override]
        return iter(self._pieces)


def _body(parts: list[bytes], fields: bytes = b"Content-Type: application/dicom\r\n", preamble: bytes = b"") -> bytes:
    """A multipart body as RFC 2046 5.1.1 writes it."""
    delimiter = f"--{BOUNDARY}".encode()
    return (
        preamble
        + b"\r\n".join(delimiter + b"\r\n" + fields + b"\r\n" + each for each in [*parts])
        + (b"\r\n" + delimiter + b"--\r\n")
    )


def _pieces(body: bytes, sizes: list[int]) -> list[bytes]:
    pieces, at = [], 0
    for size in sizes:
        pieces.append(body[at : at + size])
        at += size
    return [*pieces, body[at:]]


def _read(
    pieces: list[bytes], into: Path, content_type: str = f'multipart/related; boundary="{BOUNDARY}"'
) -> list[bytes]:
    return [path.read_bytes() for path in parts_of(_Answer(pieces, content_type), into)]


PARTS = st.lists(
    st.lists(st.sampled_from([b"\r\n", b"--", BOUNDARY.encode(), b"\0", b"DICM", b"\r\n--b-"]), max_size=6).map(
        b"".join
    ),
    min_size=1,
    max_size=3,
).filter(lambda parts: not any(f"\r\n--{BOUNDARY}".encode() in b"\r\n" + part for part in parts))
"""Parts that look like boundaries as far as they may."""


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=PARTS, sizes=st.lists(st.integers(1, 12), max_size=60))
def test_parts_come_as_they_were_sent(parts: list[bytes], sizes: list[int], tmp_path: Path) -> None:
    """However the connection cuts the body, its parts are the bytes that were put in; no file stays behind."""
    assert _read(_pieces(_body(parts), sizes), tmp_path) == parts
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=PARTS, share=st.floats(0, 1, exclude_max=True))
def test_a_body_that_ends_early(parts: list[bytes], share: float, tmp_path: Path) -> None:
    """A body that ends before its closing boundary is an error, wherever it ends; no file stays behind."""
    body = _body(parts)
    whole = len(body) - len(b"\r\n")  # what follows the closing boundary tells nothing
    with pytest.raises(requests.RequestException, match="no closing boundary"):
        _read([body[: int(share * whole)]], tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fields", [b"", b"Content-Type: application/dicom\r\nContent-Length: 4\r\n"])
@pytest.mark.parametrize("preamble", [b"", b"\r\n", b"This is a multipart message.\r\n"])
def test_fields_and_preamble(fields: bytes, preamble: bytes, tmp_path: Path) -> None:
    """What stands before the first boundary, and any fields or none before a part, are passed over."""
    assert _read([_body([b"DICM"], fields, preamble)], tmp_path) == [b"DICM"]


def test_no_parts(tmp_path: Path) -> None:
    """A closing boundary alone is an answer of no parts."""
    assert _read([f"--{BOUNDARY}--\r\n".encode()], tmp_path) == []


@pytest.mark.parametrize("content_type", ["text/html", "multipart/related", ""])
def test_an_answer_that_has_no_parts(tmp_path: Path, content_type: str) -> None:
    """An answer of another type, or that names no boundary, is none."""
    with pytest.raises(ValueError, match="not multipart"):
        _read([b"<html>"], tmp_path, content_type)


def test_fields_without_end(tmp_path: Path) -> None:
    """A server that never ends the fields before a part does not fill our memory."""
    pieces = [f"--{BOUNDARY}\r\n".encode(), *[bytes(1 << 16)] * 40]
    with pytest.raises(ValueError, match="do not end"):
        _read(pieces, tmp_path)


@pytest.mark.parametrize("count", [1, 7, 64, 1 << 20])
def test_the_body_of_a_store(tmp_path: Path, count: int) -> None:
    """Read in steps of any size, twice over, the body is one part that Python's own parser takes as it was."""
    content = bytes(range(256)) * 5
    (tmp_path / "object").write_bytes(content)
    with (tmp_path / "object").open("rb") as file:
        body = StowBody(file)
        for _ in range(2):
            body.seek(0)
            read = b"".join(iter(lambda: body.read(count), b""))
            assert len(read) == len(body)
        assert body.tell() == len(body)
    message = message_from_bytes(f"Content-Type: {body.content_type}\r\n\r\n".encode() + read)
    (part,) = message.get_payload()
    assert part.get_content_type() == "application/dicom"
    assert part.get_payload(decode=True) == content
