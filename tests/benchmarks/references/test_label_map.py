"""NIfTI and NRRD label maps on the image's grid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from voxfleet.benchmarks.references import nifti, nrrd
from voxfleet.benchmarks.references.errors import GeometryUnknown, OutsideImage, UnreadableReference
from voxfleet.benchmarks.references.label_map import NoLabelMap
from voxfleet.benchmarks.references.label_table import InvalidLabelTable, read_label_table
from voxfleet.benchmarks.references.reference import Reading, annotation_of
from voxfleet.enrich.nifti import write_nifti
from voxfleet.enrich.series import SourceImage
from voxfleet.models import codes
from voxfleet.models.segmentation import Segment, Segmentation

RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def labels_of(image: SourceImage) -> np.ndarray:
    """Two structures, off centre on every axis, so that no mirrored reading fits."""
    labels = np.zeros(image.volume.spatial_shape, np.uint8)
    labels[1:3, 2:6, 3:8] = 1
    labels[4, 9:12, 1:3] = 2
    return labels


def save(path: Path, image: SourceImage, values: np.ndarray, **header: int) -> Path:
    """NIfTI of values (k, j, i), axes turned to (i, j, k) as tools write them."""
    affine = RAS @ image.volume.permute_spatial_axes((2, 1, 0)).affine
    file = nibabel.Nifti1Image(np.ascontiguousarray(values.transpose(2, 1, 0)), affine)
    file.set_sform(affine, code=header.get("sform", 1))
    file.set_qform(affine, code=header.get("qform", 1))
    nibabel.save(file, path)
    return path


def test_sarcoma(sarcoma: Path, sarcoma_ct: SourceImage) -> None:
    """IBSI's mask of the tumour has its 17,090 voxels on the CT."""
    (annotation,) = nifti.read(sarcoma / "nifti" / "CT_mask.nii.gz", sarcoma_ct, Reading())
    assert annotation.masks[1].voxels == 17090


def test_left_is_left(tmp_path: Path, image: SourceImage) -> None:
    """A label map in RAS lands where it was drawn in LPS, voxel by voxel."""
    labels = labels_of(image)
    (annotation,) = nifti.read(save(tmp_path / "x.nii.gz", image, labels), image, Reading())
    for number in (1, 2):
        assert np.array_equal(annotation.masks[number].whole(), labels == number)


@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 0, 2)])
@pytest.mark.parametrize("flip", [(), (0,), (1, 2)])
def test_any_order_of_axes(tmp_path: Path, image: SourceImage, axes: tuple[int, ...], flip: tuple[int, ...]) -> None:
    """However the file turns and mirrors its axes, the voxels are the same, of a block without three of its corners."""
    labels = labels_of(image)
    labels[1, 2, 3] = labels[1, 2, 7] = labels[2, 2, 3] = 0
    turned = image.volume.with_array(labels).permute_spatial_axes(list(axes))
    turned = turned.flip_spatial(list(flip)) if flip else turned
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(turned.array), RAS @ turned.affine), tmp_path / "x.nii")
    (annotation,) = nifti.read(tmp_path / "x.nii", image, Reading())
    assert np.array_equal(annotation.masks[1].whole(), labels == 1)


def test_oblique_and_anisotropic(tmp_path: Path, image_of: Callable[..., SourceImage]) -> None:
    """So they are on an oblique grid of 0.7 x 0.9 x 3 mm."""
    angle = np.deg2rad(25)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.array([[0, 0, 0.7], [0, 0.9, 0], [3, 0, 0]])
    image = image_of(affine=affine)
    labels = labels_of(image)
    (annotation,) = nifti.read(save(tmp_path / "x.nii", image, labels), image, Reading())
    assert np.array_equal(annotation.masks[2].whole(), labels == 2)


def test_coarser_grid(tmp_path: Path, image: SourceImage, image_of: Callable[..., SourceImage]) -> None:
    """A mask of 2 mm voxels is taken at each voxel's centre: 3 coarse columns are 6 fine ones."""
    affine = image.volume.affine @ np.diag([1, 2, 2, 1])
    affine[:3, 3] = [0.5, 0.5, 0]  # faces on faces
    coarse = image_of((6, 10, 12), affine)
    values = np.zeros((6, 10, 12), np.uint8)
    values[1:3, 2:4, 1:4] = 1
    (annotation,) = nifti.read(save(tmp_path / "x.nii", coarse, values), image, Reading())
    assert annotation.masks[1].box == (slice(1, 3), slice(4, 8), slice(2, 8))
    assert annotation.masks[1].voxels == 2 * 4 * 6


def test_own_nifti_keeps_codes(tmp_path: Path, image: SourceImage) -> None:
    """What `write_nifti` wrote comes back with its codes, as the segmentation itself does."""
    lung = ("lung", codes.ANATOMICAL_STRUCTURE, codes.LUNG, (9, 9, 9))
    segments = (Segment(1, "Right Lung", *lung, codes.RIGHT), Segment(2, "Left Lung", *lung, codes.LEFT))
    segmentation = Segmentation(image.volume.with_array(labels_of(image)), segments)
    write_nifti(segmentation, tmp_path / "lungs.nii.gz")
    (annotation,) = nifti.read(tmp_path / "lungs.nii.gz", image, Reading())
    direct = annotation_of(segmentation, image, "model")
    assert annotation.structures == direct.structures
    assert [annotation.masks[n].voxels for n in (1, 2)] == [direct.masks[n].voxels for n in (1, 2)] == [40, 6]


def test_structures_within_structures(tmp_path: Path, image: SourceImage) -> None:
    """A lung that contains its opacity has the opacity's voxels too, from the model and from its NIfTI."""
    lung = Segment(1, "Lung", "lung", codes.ANATOMICAL_STRUCTURE, codes.LUNG, (9, 9, 9), contains=(2,))
    finding = (codes.MORPHOLOGICALLY_ABNORMAL_STRUCTURE, codes.GROUND_GLASS_OPACITY, (9, 9, 9))
    segmentation = Segmentation(image.volume.with_array(labels_of(image)), (lung, Segment(2, "O", "o", *finding)))
    write_nifti(segmentation, tmp_path / "lung.nii.gz")
    (annotation,) = nifti.read(tmp_path / "lung.nii.gz", image, Reading())
    direct = annotation_of(segmentation, image, "model")
    for each in (annotation, direct):
        assert [each.masks[n].voxels for n in (1, 2)] == [46, 6]
        assert np.array_equal(each.masks[1].whole(), segmentation.mask(1))


@pytest.mark.parametrize("text", ["{", "[1]", '[{"number": 1}]', '[{"number": "a", "name": "b"}]'])
def test_damaged_labels(tmp_path: Path, image: SourceImage, text: str) -> None:
    """A file of labels that is none is told so."""
    path = save(tmp_path / "x.nii.gz", image, labels_of(image))
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UnreadableReference):
        nifti.read(path, image, Reading())


def test_xnat_names_contour_and_observer(tmp_path: Path, image: SourceImage) -> None:
    """``segmentation_{contour}_{observer}.nii.gz`` is a contour of a reader, and the table gives its code."""
    mask = (labels_of(image) == 1).astype(np.uint8)
    path = save(tmp_path / "segmentation_left_lung_obs2.nii.gz", image, mask)
    table = tmp_path / "labels.yaml"
    table.write_text(
        'labels: 1\ncodes:\n  left_lung: {type: ["39607008", SCT, Lung], laterality: ["7771000", SCT, Left]}\n'
    )
    (annotation,) = nifti.read(path, image, read_label_table(table))
    assert annotation.reader == "obs2"
    assert annotation.structures[0].name == "left_lung"
    assert annotation.structures[0].laterality == codes.LEFT


def test_names_of_values(tmp_path: Path, image: SourceImage) -> None:
    """Values have the table's names; one that the table does not know is refused."""
    path = save(tmp_path / "x.nii.gz", image, labels_of(image))
    (annotation,) = nifti.read(path, image, Reading(values={1: "liver", 2: "spleen", 3: "kidney"}))
    assert [s.name for s in annotation.structures] == ["liver", "spleen", "kidney"]
    assert annotation.masks[3].empty
    with pytest.raises(NoLabelMap, match="value 2 has no name"):
        nifti.read(path, image, Reading(values={1: "liver"}))


def test_fractions_are_cut(tmp_path: Path, image: SourceImage) -> None:
    """A map of 0 to 1 is cut at the threshold."""
    values = np.zeros(image.volume.spatial_shape, np.float32)
    values[2, 3, 4], values[2, 3, 5] = 0.4, 0.9
    path = save(tmp_path / "x.nii", image, values)
    assert [nifti.read(path, image, Reading(t))[0].masks[1].voxels for t in (0.3, 0.5)] == [2, 1]


@pytest.mark.parametrize(
    ("values", "error"),
    [
        (np.full((6, 20, 24), -3, np.int16), NoLabelMap),
        (np.full((6, 20, 24), 1.5, np.float32), NoLabelMap),
        (np.arange(6 * 20 * 24, dtype=np.int16).reshape(6, 20, 24), NoLabelMap),
    ],
)
def test_images_are_no_label_maps(
    tmp_path: Path, image: SourceImage, values: np.ndarray, error: type[Exception]
) -> None:
    """A CT, a map and an MR beside their masks are told from them."""
    with pytest.raises(error):
        nifti.read(save(tmp_path / "x.nii", image, values), image, Reading())


def test_no_place(tmp_path: Path, image: SourceImage) -> None:
    """A header without sform and qform tells no place: nothing is assumed."""
    path = save(tmp_path / "x.nii", image, labels_of(image), sform=0, qform=0)
    with pytest.raises(GeometryUnknown, match="neither sform nor qform") as caught:
        nifti.read(path, image, Reading())
    assert caught.value.code == "REFERENCE_GEOMETRY"


def test_outside(tmp_path: Path, image: SourceImage, image_of: Callable[..., SourceImage]) -> None:
    """Voxels where the image has none are refused."""
    affine = image.volume.affine.copy()
    affine[:3, 3] = [20, 0, 0]
    with pytest.raises(OutsideImage):
        nifti.read(save(tmp_path / "x.nii", image_of(affine=affine), labels_of(image)), image, Reading())


def test_damaged(tmp_path: Path, image: SourceImage) -> None:
    """A cut file is told so."""
    path = save(tmp_path / "x.nii", image, labels_of(image))
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(UnreadableReference):
        nifti.read(path, image, Reading())


SEG_NRRD = {
    "Segment0_ID": "a",
    "Segment0_Name": "right lung",
    "Segment0_LabelValue": "1",
    "Segment0_Layer": "0",
    "Segment0_Tags": "TerminologyEntry:List~SCT^123037004^Anatomical Structure~SCT^39607008^Lung~SCT^24028007^Right"
    "~Anatomic codes~^^~^^|Other:1|",
    "Segment1_ID": "b",
    "Segment1_Name": "nodule",
    "Segment1_LabelValue": "1",
    "Segment1_Layer": "1",
}


def test_slicer_layers(tmp_path: Path, image: SourceImage) -> None:
    """A ``.seg.nrrd`` of two layers holds two structures that overlap, with 3D Slicer's codes."""
    writer = pytest.importorskip("nrrd")
    lung, nodule = np.zeros(image.volume.spatial_shape, np.uint8), np.zeros(image.volume.spatial_shape, np.uint8)
    lung[1:4, 2:9, 3:9], nodule[2, 4, 5] = 1, 1
    array = np.stack([each.transpose(2, 1, 0) for each in (lung, nodule)])
    turned = image.volume.permute_spatial_axes((2, 1, 0)).affine
    directions = np.vstack([np.full(3, np.nan), turned[:3, :3].T])
    header = {
        "space": "left-posterior-superior",
        "space directions": directions,
        "space origin": turned[:3, 3],
        "kinds": ["list", "domain", "domain", "domain"],
        **SEG_NRRD,
    }
    writer.write(str(tmp_path / "x.seg.nrrd"), array, header)
    (annotation,) = nrrd.read(tmp_path / "x.seg.nrrd", image, Reading())
    assert [(s.name, s.type and s.type.value) for s in annotation.structures] == [
        ("right lung", "39607008"),
        ("nodule", None),
    ]
    assert annotation.structures[0].laterality == codes.RIGHT
    assert np.array_equal(annotation.masks[1].whole(), lung == 1)
    assert np.array_equal(annotation.masks[2].whole(), nodule == 1)


def test_nrrd_without_space(tmp_path: Path, image: SourceImage) -> None:
    """An NRRD that names no space of patients lies nowhere."""
    writer = pytest.importorskip("nrrd")
    writer.write(str(tmp_path / "x.nrrd"), np.ones((3, 3, 3), np.uint8))
    with pytest.raises(GeometryUnknown):
        nrrd.read(tmp_path / "x.nrrd", image, Reading())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "labels: 2",
        "labels: 1\nother: 3",
        "labels: 1\nvalues: [a]",
        "labels: 1\ncodes: {a: {type: [1, SCT, x]}}",
        "labels: 1\ncodes: {a: {kind: x}}",
        "labels: 1\ncodes: [a]",
        "labels: [",
    ],
)
def test_bad_tables(tmp_path: Path, text: str) -> None:
    """A table of another shape is refused."""
    path = tmp_path / "labels.yaml"
    path.write_text(text)
    with pytest.raises(InvalidLabelTable) as caught:
        read_label_table(path)
    assert caught.value.code == "INVALID_LABEL_TABLE"
