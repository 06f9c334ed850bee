"""From a path to what experts marked on a series."""

from __future__ import annotations

import copy
import gzip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import nibabel
import numpy as np
import pytest
import voxfleet.benchmarks.references as folder
from pydicom import dcmread
from voxfleet import Error
from voxfleet.benchmarks.references.errors import InvalidReference, OtherSeries, UnreadableReference
from voxfleet.benchmarks.references.find import NoReference, SharedReference, concerns, open_references
from voxfleet.benchmarks.references.formats import FORMATS
from voxfleet.benchmarks.references.packed_mask import PackedMask
from voxfleet.benchmarks.references.reference import Reading, ReferenceFormat, Subject
from voxfleet.enrich.archives.opening import open_archive
from voxfleet.enrich.series import SourceImage


def dice(one: PackedMask, other: PackedMask) -> float:
    """2|A∩B| / (|A| + |B|)."""
    shared = np.count_nonzero(one.whole() & other.whole())
    return 2 * shared / (one.voxels + other.voxels)


def save_nifti(path: Path, image: SourceImage, box: tuple[slice, slice, slice]) -> None:
    """Mask of a box of the image."""
    values = np.zeros(image.volume.spatial_shape, np.uint8)
    values[box] = 1
    turned = image.volume.with_array(values).permute_spatial_axes((2, 1, 0))
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(turned.array), turned.get_affine("RAS")), path)


BOX = (slice(1, 3), slice(2, 6), slice(3, 8))


def test_three_references_of_the_sarcoma_agree(
    sarcoma: Path, sarcoma_ct: SourceImage, sarcoma_pet: SourceImage, tmp_path: Path
) -> None:
    """RTSTRUCT, NIfTI and MD.ai JSON of one tumour are found in one folder and agree at Dice >= 0.999 on CT."""
    references = open_references(str(sarcoma), Reading(), tmp_path)
    found = references.of(sarcoma_ct)
    assert sorted(each.origin.format for each in found) == ["MD.ai JSON", "NIfTI", "RTSTRUCT"]
    for one in found:
        for other in found:
            assert dice(one.masks[1], other.masks[1]) >= 0.999
    on_pet = references.of(sarcoma_pet)
    assert sorted(each.origin.format for each in on_pet) == ["NIfTI", "RTSTRUCT"]
    assert dice(on_pet[0].masks[1], on_pet[1].masks[1]) >= 0.999
    unread = {each.path.name for each in references.files if not references.claims.get(each.path)}
    assert unread == {"CT_image.nii.gz", "PET_image.nii.gz"}


def test_seg_by_frame_of_reference(breast_folder: Path, breast_mr: SourceImage, tmp_path: Path) -> None:
    """A SEG that names no series is found for the series of its patient and frame of reference, and no other."""
    references = open_references(str(breast_folder), Reading(), tmp_path)
    (annotation,) = references.of(breast_mr)
    assert annotation.masks[1].voxels == 82527
    header = copy.deepcopy(breast_mr.headers[0])
    header.PatientID = "someone else"
    assert references.of(replace(breast_mr, headers=(header, *breast_mr.headers[1:]))) == ()


def test_seg_on_the_voxels_of_another_series(breast_folder: Path, breast_mr: SourceImage, tmp_path: Path) -> None:
    """On a coarser series of the same frame of reference it is resampled, and said to be."""
    coarse = breast_mr.volume.affine.copy()
    coarse[:3, :3] *= 2
    shape = tuple((np.array(breast_mr.volume.spatial_shape) + 1) // 2)
    volume = hd.Volume(np.zeros(shape, np.int16), coarse, "PATIENT", breast_mr.volume.frame_of_reference_uid)
    for image, resampled in ((breast_mr, False), (replace(breast_mr, volume=volume), True)):
        references = open_references(str(breast_folder), Reading(), tmp_path)
        (annotation,) = references.of(image)
        assert annotation.resampled == resampled
        assert references.resampled == ({Path(annotation.origin.source)} if resampled else set())


def test_xnat_folder_of_two_observers(image: SourceImage, tmp_path: Path) -> None:
    """Contours of one observer are one annotation: two observers, two contours each."""
    annotations = tmp_path / "1.2.3.2" / "Annotations"
    for observer in ("obs1", "obs2"):
        for contour in ("left_lung", "right_lung"):
            save_nifti(annotations / f"segmentation_{contour}_{observer}.nii.gz", image, BOX)
    found = open_references(str(tmp_path), Reading(), tmp_path / "scratch").of(image)
    assert [(each.reader, [s.name for s in each.structures]) for each in found] == [
        ("obs1", ["left_lung", "right_lung"]),
        ("obs2", ["left_lung", "right_lung"]),
    ]
    assert all(each.masks[2].voxels == 40 for each in found)
    assert len({each.origin.sha256 for each in found}) == 1


def test_grid_of_another_series(image: SourceImage, image_of: Callable[..., SourceImage], tmp_path: Path) -> None:
    """A NIfTI that names nothing belongs to exactly its grid."""
    save_nifti(tmp_path / "liver.nii.gz", image, BOX)
    references = open_references(str(tmp_path), Reading(), tmp_path)
    shifted = image.volume.affine.copy()
    shifted[0, 3] = 0.5
    assert references.of(image_of(affine=shifted)) == ()
    assert len(references.of(image)) == 1


def test_path_that_names_another_series(image: SourceImage, tmp_path: Path) -> None:
    """A file in the folder of another series is that one's, though the grid is the same."""
    save_nifti(tmp_path / "1.2.826.0.1.3680043.8" / "liver.nii.gz", image, BOX)
    assert open_references(str(tmp_path), Reading(), tmp_path).of(image) == ()


def test_one_grid_of_two_patients(image: SourceImage, tmp_path: Path) -> None:
    """Two patients scanned on one grid: whose a NIfTI without name is, is not guessed."""
    save_nifti(tmp_path / "liver.nii.gz", image, BOX)
    references = open_references(str(tmp_path), Reading(), tmp_path)
    references.of(image)
    header = copy.deepcopy(image.headers[0])
    header.PatientID = "P-2"
    with pytest.raises(SharedReference) as caught:
        references.of(replace(image, headers=(header, *image.headers[1:])))
    assert caught.value.code == "SHARED_REFERENCE"


def test_one_file_must_fit(sarcoma: Path, sarcoma_pet: SourceImage, image: SourceImage, tmp_path: Path) -> None:
    """A file given by its own path is held against the series, not passed over."""
    references = open_references(str(sarcoma / "dicom" / "CT" / "mask" / "RS.dcm"), Reading(), tmp_path)
    with pytest.raises(OtherSeries):
        references.of(sarcoma_pet)


def test_archive_uri(sarcoma: Path, sarcoma_ct: SourceImage, tmp_path: Path) -> None:
    """An archive is searched for SEG, RTSTRUCT and SR."""
    references = open_references(f"dir:{sarcoma / 'dicom'}", Reading(), tmp_path)
    assert [each.format.NAME for each in references.files] == ["RTSTRUCT", "RTSTRUCT"]
    assert references.of(sarcoma_ct)[0].masks[1].voxels == 17090


def test_nothing_there(tmp_path: Path) -> None:
    """A folder without references is told so, with the formats there are."""
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(NoReference, match="RTSTRUCT") as caught:
        open_references(str(tmp_path), Reading(), tmp_path)
    assert caught.value.code == "NO_REFERENCE"


def test_damaged_file_is_passed_over(image: SourceImage, tmp_path: Path) -> None:
    """One broken file does not take the others along, and is told of."""
    save_nifti(tmp_path / "liver.nii.gz", image, BOX)
    (tmp_path / "broken.nii.gz").write_bytes(b"no")
    references = open_references(str(tmp_path), Reading(), tmp_path)
    assert len(references.files) == 1
    assert [remark.code for remark in references.passed_over] == ["REFERENCE_UNREADABLE"]


def test_file_that_breaks_off_takes_no_other_along(image: SourceImage, tmp_path: Path) -> None:
    """A file whose header is whole and whose voxels are not is refused; what lies beside it is read all the same."""
    for name in ("liver", "spleen"):
        save_nifti(tmp_path / f"{name}.nii.gz", image, BOX)
    data = gzip.decompress((tmp_path / "liver.nii.gz").read_bytes())
    (tmp_path / "liver.nii.gz").write_bytes(gzip.compress(data[: len(data) // 2]))
    references = open_references(str(tmp_path), Reading(), tmp_path)
    refused: list[Error] = []
    (annotation,) = references.of(image, refused)
    assert [each.name for each in annotation.structures] == ["spleen"]
    assert [(each.code, "liver.nii.gz" in str(each)) for each in refused] == [("REFERENCE_UNREADABLE", True)]
    with pytest.raises(UnreadableReference):
        references.of(image)


@pytest.mark.parametrize("each", FORMATS, ids=lambda each: each.NAME)
def test_every_format_keeps_the_protocol(each: ReferenceFormat, image: SourceImage, tmp_path: Path) -> None:
    """A format knows its files, and refuses what it cannot read with an error of ours."""
    path = tmp_path / "nothing.bin"
    path.write_bytes(b"\0" * 200)
    assert not each.recognises(path)
    for call in (lambda: each.subject(path), lambda: each.read(path, image, Reading())):
        with pytest.raises(InvalidReference) as caught:
            call()
        assert isinstance(caught.value, UnreadableReference)


def test_formats_are_the_files() -> None:
    """Every file that declares a format is listed."""
    here = Path(str(folder.__file__)).parent
    declared = {path.stem for path in here.glob("*.py") if "\nNAME = " in path.read_text()}
    assert declared == {each.__name__.rpartition(".")[2] for each in FORMATS}  # type: ignore[attr-defined]


def test_what_a_file_names_decides(image: SourceImage) -> None:
    """A file that names nothing is of no image; one that names instances is of theirs."""
    assert not concerns(Subject(), image)
    assert concerns(Subject(sop_instance_uids=frozenset({"1.2.3.2.3"})), image)


@pytest.mark.orthanc
def test_dicomweb_archive(orthanc, sarcoma: Path, sarcoma_ct: SourceImage, tmp_path: Path) -> None:
    """An archive behind DICOMweb is searched, and its RTSTRUCT copied and read."""
    archive = open_archive(orthanc.uri)
    archive.store(dcmread(sarcoma / "dicom" / "CT" / "mask" / "RS.dcm"))
    archive.close()
    (annotation,) = open_references(orthanc.uri, Reading(), tmp_path).of(sarcoma_ct)
    assert annotation.masks[1].voxels == 17090
