"""Pictures are hung as radiologists hang them, from any orientation, and small."""

from __future__ import annotations

import io
from collections.abc import Callable

import highdicom as hd
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from voxfleet.enrich.phantom import Phantom
from voxfleet.models import codes
from voxfleet.models.segmentation import Segment, Segmentation
from voxfleet.runners import pictures as module
from voxfleet.runners.pictures import Picture, flattened, pictures
from voxfleet.runners.planes import chosen_slices, standard_view

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def segment(number: int, color: tuple[int, int, int], *, finding: bool = False) -> Segment:
    """A segment of bone, or a finding."""
    category = codes.MORPHOLOGICALLY_ABNORMAL_STRUCTURE if finding else codes.ANATOMICAL_STRUCTURE
    return Segment(number, f"Segment {number}", f"s{number}", category, codes.BONE, color)


def placed() -> tuple[hd.Volume, Segmentation]:
    """Boxes that mark directions: red to the patient's right, green anterior, blue at the head.

    Array (k, j, i) to feet, posterior, left, of 20 x 30 x 40 voxels of 4 x 3 x 2 mm.
    """
    labels = np.zeros((20, 30, 40), np.uint8)
    labels[8:12, 13:17, 2:8] = 1
    labels[8:12, 2:6, 17:23] = 2
    labels[1:4, 13:17, 17:23] = 3
    # LPS: +x to the left, +y to the back, +z to the head.
    affine = np.array([[0, 0, 2, 5], [0, 3, 0, 6], [-4, 0, 0, 7], [0, 0, 0, 1]], dtype=float)
    volume = hd.Volume(labels.astype(np.int16) * 100, affine, "PATIENT")
    segments = (segment(1, RED), segment(2, GREEN), segment(3, BLUE))
    return volume, Segmentation(volume.with_array(labels), segments)


def centre(picture: Picture, color: tuple[int, int, int]) -> tuple[float, float]:
    """Where a colour lies in the overlay, as parts of width and height from the top left."""
    rgba = np.asarray(Image.open(io.BytesIO(picture.overlay_png)))
    rows, columns = np.nonzero((rgba[..., :3] == color).all(axis=-1) & (rgba[..., 3] > 0))
    return float(columns.mean() + 0.5) / picture.width, float(rows.mean() + 0.5) / picture.height


def oblique(volume: hd.Volume) -> hd.Volume:
    """The volume turned by 15 degrees about the patient's long axis, patient and all."""
    a = np.deg2rad(15.0)
    turn = np.array([[np.cos(a), -np.sin(a), 0, 0], [np.sin(a), np.cos(a), 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    return hd.Volume(volume.array, turn @ volume.affine, "PATIENT")


TURNS: list[Callable[[hd.Volume], hd.Volume]] = [
    lambda v: v,
    lambda v: v.flip_spatial([0, 1, 2]),
    lambda v: v.permute_spatial_axes((2, 0, 1)),
    lambda v: v.permute_spatial_axes((1, 2, 0)).flip_spatial([1]),
    oblique,
    lambda v: oblique(v).permute_spatial_axes((2, 1, 0)).flip_spatial([0, 2]),
]


@pytest.mark.parametrize("turn", TURNS)
def test_right_is_left_and_head_is_up(turn: Callable[[hd.Volume], hd.Volume], monkeypatch: pytest.MonkeyPatch) -> None:
    """However the array lies, the patient's right is at the picture's left, anterior and head are up."""
    volume, segmentation = placed()
    monkeypatch.setattr(module, "chosen_slices", lambda *_: (10, 15, 20))
    made = pictures(turn(volume), Segmentation(turn(segmentation.labelmap), segmentation.segments), "CT")
    axial, coronal, sagittal = made
    assert [picture.letters for picture in made] == ["RLAP", "RLHF", "APHF"]
    # Red: voxels 2 to 8 of 40 from the right; green: 2 to 6 of 30 from the front; blue: 1 to 4 of 20 from the head.
    red, green, blue = 5 / 40, 4 / 30, 2.5 / 20
    assert centre(axial, RED) == pytest.approx((red, 0.5), abs=0.01)
    assert centre(axial, GREEN) == pytest.approx((0.5, green), abs=0.01)
    assert centre(coronal, RED) == pytest.approx((red, 0.5), abs=0.01)
    assert centre(coronal, BLUE) == pytest.approx((0.5, blue), abs=0.01)
    assert centre(sagittal, GREEN) == pytest.approx((green, 0.5), abs=0.01)
    assert centre(sagittal, BLUE) == pytest.approx((0.5, blue), abs=0.01)


def test_a_millimetre_is_as_long_in_every_plane() -> None:
    """80 mm across, 90 mm deep and 80 mm high give pictures of these proportions, at most 560 pixels."""
    axial, coronal, sagittal = pictures(*placed(), "CT")
    # The longest side is 30 x 3 = 90 mm = 560 pixels; 80 mm are 498.
    assert (axial.width, axial.height) == (498, 560)
    assert (coronal.width, coronal.height) == (498, 498)
    assert (sagittal.width, sagittal.height) == (560, 498)


def test_the_largest_finding_is_shown() -> None:
    """With two findings, the planes go through the larger, though organs are larger still."""
    labels = np.zeros((20, 30, 40), np.uint8)
    labels[:15, :20, :30] = 1
    labels[17, 25, 35] = 2
    labels[3:6, 20:24, 30:35] = 2
    volume, _ = placed()
    found = Segmentation(volume.with_array(labels), (segment(1, RED), segment(2, GREEN, finding=True)))
    down, back, left = chosen_slices(standard_view(volume, found), found)
    assert (3 <= down < 6, 20 <= back < 24, 30 <= left < 35) == (True, True, True)


def test_organs_are_shown_where_most_of_them_is() -> None:
    """Two organs that share one slice are shown in it, though one is larger elsewhere."""
    labels = np.zeros((20, 30, 40), np.uint8)
    labels[2:9, 5:15, 5:15] = 1
    labels[8:12, 20:25, 20:25] = 2
    volume, _ = placed()
    found = Segmentation(volume.with_array(labels), (segment(1, RED), segment(2, GREEN)))
    assert chosen_slices(standard_view(volume, found), found)[0] == 8


def test_nothing_found_shows_the_middle() -> None:
    """A segmentation without a voxel has the middle slices, and an empty overlay."""
    volume, _ = placed()
    none = Segmentation(volume.with_array(np.zeros((20, 30, 40), np.uint8)), (segment(1, RED),))
    made = pictures(volume, none, "CT")
    assert [picture.caption.split(";")[0] for picture in made] == [
        "slice 11 of 20",
        "slice 16 of 30",
        "slice 21 of 40",
    ]
    for picture in made:
        assert picture.segments == ()
        assert not np.asarray(Image.open(io.BytesIO(picture.overlay_png)))[..., 3].any()


def grey(picture: Picture) -> NDArray[np.uint8]:
    """Values of the grey picture."""
    return np.asarray(Image.open(io.BytesIO(picture.grey_png)))


def flat(value: float, dtype: type = np.int16) -> tuple[hd.Volume, Segmentation]:
    """A volume of one value but for a bright and a dark corner, with a segment over the middle."""
    volume, _ = placed()
    array = np.full((20, 30, 40), value, dtype)
    array[0, 0, 0], array[0, 0, 1] = 1000, -1000
    labels = np.zeros((20, 30, 40), np.uint8)
    labels[5:15, 5:25, 5:35] = 1
    return volume.with_array(array), Segmentation(volume.with_array(labels), (segment(1, RED),))


@pytest.mark.parametrize(
    ("hounsfield", "expected", "window"),
    [
        (-800, (-800 + 1350) / 1500, "lung"),  # aerated: window 1500 about -600, from -1350
        (100, (100 + 160) / 400, "soft tissue"),  # window 400 about 40, from -160
    ],
)
def test_ct_windows(hounsfield: int, expected: float, window: str) -> None:
    """A segment of aerated tissue asks for the lung window, any other for soft tissue."""
    picture = pictures(*flat(hounsfield), "CT")[0]
    assert window in picture.caption
    assert grey(picture)[picture.height // 2, picture.width // 2] == pytest.approx(255 * expected, abs=1)


def test_other_modalities_are_windowed_by_percentiles() -> None:
    """A ramp of MR values of any scale fills the picture from black to white."""
    volume, segmentation = placed()
    ramp = np.linspace(0, 5e4, 20 * 30 * 40, dtype=np.float32).reshape(20, 30, 40)
    made = pictures(volume.with_array(ramp), segmentation, "MR")
    values = np.concatenate([grey(picture).ravel() for picture in made])
    assert (values.min(), values.max()) == (0, 255)


def test_not_a_number_is_black() -> None:
    """NaN in a float volume breaks nothing and is black."""
    volume, segmentation = flat(100.0, np.float32)
    volume.array[:, :, 20:] = np.nan
    axial = pictures(volume, segmentation, "MR")[0]
    assert grey(axial)[5, -5] == 0


def test_what_contains_others_is_an_outline(phantom: Phantom, opacities: Segmentation) -> None:
    """The lung is drawn as an outline, so that the opacity filled within it is seen."""
    axial = pictures(phantom.volume, opacities, "CT")[0]
    rgba = np.asarray(Image.open(io.BytesIO(axial.overlay_png)))
    inside = [s for s in opacities.segments if s.number in axial.segments and not s.contains]
    filled = {tuple(color) for color in rgba[rgba[..., 3] == module.FILL_ALPHA][:, :3].tolist()}
    assert inside
    assert filled == {s.color for s in inside}


def test_every_segment_has_an_outline_of_one_pixel() -> None:
    """Touching one another and the picture's edge, each keeps what SciPy's erosion takes from it as its outline."""
    _, segmentation = placed()
    labels = np.random.default_rng(3).integers(0, 4, (9, 12)).repeat(5, 0).repeat(5, 1).astype(np.uint8)
    rgba = np.asarray(module._overlay(labels, segmentation))
    for each in segmentation.segments:
        mask = labels == each.number
        assert (rgba[mask][:, :3] == each.color).all()
        assert (((rgba[..., 3] == module.OUTLINE_ALPHA) & mask) == mask & ~ndimage.binary_erosion(mask)).all()
    assert not rgba[labels == 0].any()


def test_pictures_shrink_until_they_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of noise, which do not compress, stay within the bytes that a page may hold."""
    volume, segmentation = placed()
    noise = np.random.default_rng(1).integers(-1000, 1000, (20, 30, 40), np.int16)
    monkeypatch.setattr(module, "MOST_BYTES", 60_000)
    made = pictures(volume.with_array(noise), segmentation, "CT")
    assert sum(len(picture.grey_png) + len(picture.overlay_png) for picture in made) <= 60_000
    assert made[0].width < 400


def test_flattened_has_letters_and_segments() -> None:
    """The picture to be used elsewhere has the size, white letters and the colours of segments."""
    axial = pictures(*placed(), "CT")[0]
    image = Image.open(io.BytesIO(flattened(axial)))
    assert image.size == (axial.width, axial.height)
    left = np.asarray(image)[axial.height // 2 - 10 : axial.height // 2 + 10, :24]
    assert (left == 255).all(axis=-1).any()


def test_tilt_is_told() -> None:
    """The caption says by how much the planes are not the patient's."""
    volume, segmentation = placed()
    labelmap = oblique(segmentation.labelmap)
    caption = pictures(oblique(volume), Segmentation(labelmap, segmentation.segments), "CT")[0].caption
    assert "tilted by 15°" in caption
    assert "tilted" not in pictures(volume, segmentation, "CT")[0].caption
