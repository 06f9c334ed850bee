"""LIDC's reading sessions on the image's grid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from voxfleet.benchmarks.references import lidc_xml
from voxfleet.benchmarks.references.errors import NothingUsable, OtherSeries, OutsideImage, UnreadableReference
from voxfleet.benchmarks.references.reference import Reading
from voxfleet.enrich.series import SourceImage

Ring = list[tuple[int, int]]
Write = Callable[..., Path]


def ring(low: int, high: int) -> Ring:
    """Outline (x, y) of whole pixels round the square of pixels between low and high, each pixel once."""
    side = range(low, high)
    right, down = [(x, low) for x in side], [(high, y) for y in side]
    return [*right, *down, *[(x, high) for x in range(high, low, -1)], *[(low, y) for y in range(high, low, -1)]]


def roi(k: int, edge: Ring, inclusion: str = "TRUE") -> str:
    """One ``roi`` element."""
    points = "".join(f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in edge)
    place = f"<imageZposition>{2 * k}</imageZposition><imageSOP_UID>1.2.3.2.{k + 1}</imageSOP_UID>"
    return f"<roi>{place}<inclusion>{inclusion}</inclusion>{points}</roi>"


def nodule(name: str, *rois: str, malignancy: int | None = 3) -> str:
    """One ``unblindedReadNodule`` element."""
    rating = "" if malignancy is None else f"<characteristics><malignancy>{malignancy}</malignancy></characteristics>"
    return f"<unblindedReadNodule><noduleID>{name}</noduleID>{rating}{''.join(rois)}</unblindedReadNodule>"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a message of reading sessions, each given as its content."""

    def message(*sessions: str, series: str = "1.2.3.2") -> Path:
        header = f"<ResponseHeader><SeriesInstanceUid>{series}</SeriesInstanceUid>"
        header += "<StudyInstanceUID>1.2.3.1</StudyInstanceUID></ResponseHeader>"
        body = "".join(f"<readingSession>{content}</readingSession>" for content in sessions)
        path = tmp_path / "063.xml"
        path.write_text(
            '<?xml version="1.0" encoding="UTF-8"?>'
            f'<LidcReadMessage xmlns="http://www.nih.gov">{header}{body}</LidcReadMessage>'
        )
        return path

    return message


def test_outline_is_outside(write: Write, image: SourceImage) -> None:
    """The outline's own pixels do not belong: a ring from 2 to 8 holds 5 x 5 pixels."""
    (annotation,) = lidc_xml.read(write(nodule("n", roi(2, ring(2, 8)))), image, Reading())
    mask = annotation.masks[1]
    assert (mask.voxels, mask.box) == (25, (slice(2, 3), slice(3, 8), slice(3, 8)))


def test_direction_does_not_matter(write: Write, image: SourceImage) -> None:
    """Drawn the other way round it is the same."""
    (annotation,) = lidc_xml.read(write(nodule("n", roi(2, ring(2, 8)[::-1]))), image, Reading())
    assert annotation.masks[1].voxels == 25


def test_exclusion(write: Write, image: SourceImage) -> None:
    """An outline with inclusion FALSE takes away what it goes round, not itself: 7 x 7 less 1."""
    path = write(nodule("n", roi(2, ring(2, 10)), roi(2, ring(5, 7), "FALSE")))
    (annotation,) = lidc_xml.read(path, image, Reading())
    assert annotation.masks[1].voxels == 49 - 1


def test_four_readers(write: Write, image: SourceImage) -> None:
    """Each session is a reader; one who found nothing is one too."""
    both = nodule("1", roi(2, ring(2, 8)), roi(3, ring(2, 6))), nodule("2", roi(4, ring(9, 13)), malignancy=5)
    found = lidc_xml.read(write("".join(both), nodule("a", roi(2, ring(2, 8))), ""), image, Reading())
    assert [(a.reader, [s.name for s in a.structures]) for a in found] == [
        ("session 1", ["1", "2"]),
        ("session 2", ["a"]),
        ("session 3", []),
    ]
    assert found[0].masks[1].voxels == 25 + 9
    assert [(v.structure, v.name, v.value) for v in found[0].values] == [(1, "malignancy", 3), (2, "malignancy", 5)]
    assert found[0].structures[0].type.value == "27925004"


def test_points(write: Write, image: SourceImage) -> None:
    """A small nodule is one pixel, a non-nodule one place without a code."""
    non = "<nonNodule><nonNoduleID>9</nonNoduleID><imageSOP_UID>1.2.3.2.4</imageSOP_UID>"
    non += "<locus><xCoord>5</xCoord><yCoord>6</yCoord></locus></nonNodule>"
    path = write(nodule("small", roi(1, [(4, 3)]), malignancy=None) + non)
    (annotation,) = lidc_xml.read(path, image, Reading())
    assert [(p.structure, p.position_mm) for p in annotation.points] == [(1, (4, 3, 2)), (2, (5, 6, 6))]
    assert [s.type is None for s in annotation.structures] == [False, True]


def test_spur_of_the_pen(write: Write, image: SourceImage) -> None:
    """An outline that runs out and back along one pixel holds what it goes round."""
    edge = ring(2, 8)
    (annotation,) = lidc_xml.read(write(nodule("n", roi(2, [*edge, (1, 2), (0, 2), (1, 2)]))), image, Reading())
    assert annotation.masks[1].voxels == 25


@pytest.mark.parametrize(
    ("content", "series", "error"),
    [
        (nodule("n", roi(2, ring(2, 8))), "1.9", OtherSeries),
        (nodule("n", roi(44, ring(2, 8))), "1.2.3.2", OutsideImage),
        (nodule("n", roi(2, ring(12, 33))), "1.2.3.2", OutsideImage),
        (nodule("n", roi(2, [(0, 0), (9, 9), (9, 0), (0, 9)])), "1.2.3.2", NothingUsable),
        (nodule("n", roi(2, [(1, 1), (2, 1)])), "1.2.3.2", NothingUsable),
    ],
)
def test_bad_input(write: Write, image: SourceImage, content: str, series: str, error: type[Exception]) -> None:
    """What is not of the image, beyond it, crosses itself or has no area is refused."""
    with pytest.raises(error) as caught:
        lidc_xml.read(write(content, series=series), image, Reading())
    assert type(caught.value) is error


@pytest.mark.parametrize(
    "text",
    ["<a", "<IdriReadMessage/>", '<!DOCTYPE x [<!ENTITY a "b">]><LidcReadMessage>&a;</LidcReadMessage>'],
)
def test_damaged(tmp_path: Path, text: str) -> None:
    """Another XML, and one with entities, is told so."""
    (tmp_path / "x.xml").write_text(text)
    with pytest.raises(UnreadableReference):
        lidc_xml.subject(tmp_path / "x.xml")


def test_recognised(write: Write, tmp_path: Path) -> None:
    """A message is known by its root."""
    assert lidc_xml.recognises(write(""))
    (tmp_path / "other.xml").write_text("<other/>")
    assert not lidc_xml.recognises(tmp_path / "other.xml")


def test_line_through_pixels() -> None:
    """From (0, 0) to (2, 4) and back lie the pixels (0, 0), (1, 2) and (2, 4)."""
    assert set(lidc_xml.on_line(np.array([[0, 0], [2, 4]]))) == {(0, 0), (1, 2), (2, 4)}
