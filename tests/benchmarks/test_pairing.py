"""Structures paired by code and side."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.sr.coding import Code
from voxfleet.benchmarks.crosswalk import Concept, Crosswalk, Entry, load_crosswalk
from voxfleet.benchmarks.pairing import NothingPaired, Part, outlined, pair_structures
from voxfleet.benchmarks.references.mark import MarkedPoint
from voxfleet.benchmarks.references.packed_mask import pack
from voxfleet.benchmarks.references.reference import Annotation, Origin, Structure
from voxfleet.models.codes import LEFT, LUNG, RIGHT


def sct(value: str, meaning: str = "x") -> Code:
    """Code of SNOMED CT."""
    return Code(value, "SCT", meaning)


UPPER, MIDDLE, LOWER = sct("45653009"), sct("72481006"), sct("90572001")
LIVER, KIDNEY, CYST, NEOPLASM = sct("10200004", "Liver"), sct("64033007", "Kidney"), sct("367643001"), sct("108369006")
LOBES = (
    Structure(1, "lung_upper_lobe_left", type=UPPER, laterality=LEFT),
    Structure(2, "lung_lower_lobe_left", type=LOWER, laterality=LEFT),
    Structure(3, "lung_upper_lobe_right", type=UPPER, laterality=RIGHT),
    Structure(4, "lung_middle_lobe_right", type=MIDDLE),
    Structure(5, "lung_lower_lobe_right", type=LOWER, laterality=RIGHT),
)
"""TotalSegmentator's lobes, by its own table of codes."""
BUILT_IN = load_crosswalk()


def numbers(pairing) -> list[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    """Name and structures of each pair."""
    return [(pair.name, pair.expert.numbers, pair.prediction.numbers) for pair in pairing.pairs]


def test_names_do_not_matter() -> None:
    """One code is one structure whatever it is called; one name of two codes is none."""
    expert = [Structure(1, "Leber", type=LIVER), Structure(2, "kidney", type=KIDNEY, laterality=LEFT)]
    prediction = [Structure(1, "kidney", type=LIVER), Structure(2, "Niere", type=KIDNEY, laterality=LEFT)]
    assert numbers(pair_structures(expert, prediction, BUILT_IN)) == [
        ("Liver", (1,), (1,)),
        ("Left Kidney", (2,), (2,)),
    ]


def test_sides_matter() -> None:
    """A left kidney is no right kidney."""
    expert = [Structure(1, "k", type=KIDNEY, laterality=LEFT)]
    with pytest.raises(NothingPaired, match="NO_PARTNER") as caught:
        pair_structures(expert, [Structure(1, "k", type=KIDNEY, laterality=RIGHT)], BUILT_IN, "rs.dcm")
    assert caught.value.code == "NOTHING_PAIRED"
    assert "rs.dcm" in str(caught.value)


@pytest.mark.parametrize("scheme", ["SRT", "SNM3", "99SDM"])
def test_old_snomed_codes(scheme: str) -> None:
    """T-28000 of SNOMED RT is the lung of SNOMED CT, and G-A101 left (PS3.16 annex O)."""
    expert = [Structure(1, "l", type=Code("T-28000", scheme, "Lung"), laterality=Code("G-A101", scheme, "Left"))]
    assert numbers(pair_structures(expert, [Structure(1, "l", type=LUNG, laterality=LEFT)], BUILT_IN)) == [
        ("Left Lung", (1,), (1,))
    ]


def test_five_lobes_are_one_lung() -> None:
    """An expert's lungs without side are all five lobes; with a side, the lobes of it."""
    both = pair_structures([Structure(1, "lungs", type=LUNG)], LOBES, BUILT_IN)
    assert {*both.pairs[0].prediction.numbers} == {1, 2, 3, 4, 5}
    assert both.pairs[0].prediction.crosswalk == "Both lungs"
    assert not both.unpaired
    sides = [Structure(1, "r", type=LUNG, laterality=RIGHT), Structure(2, "l", type=LUNG, laterality=LEFT)]
    assert numbers(pair_structures(sides, LOBES, BUILT_IN)) == [
        ("Right Lung", (1,), (3, 4, 5)),
        ("Left Lung", (2,), (1, 2)),
    ]


def test_one_lung_of_the_model() -> None:
    """The other way round: lobes of the expert are the model's lung, once."""
    model = [Structure(1, "lung", type=LUNG, laterality=LEFT)]
    assert numbers(pair_structures(LOBES, model, BUILT_IN)) == [("Left Lung", (1, 2), (1,))]


def test_side_in_the_code() -> None:
    """Right lung in one code is the lung with its side in another."""
    expert = [Structure(1, "r", type=sct("3341006", "Right lung"))]
    assert numbers(pair_structures(expert, [Structure(1, "x", type=LUNG, laterality=RIGHT)], BUILT_IN)) == [
        ("Right lung", (1,), (1,))
    ]
    assert {*pair_structures(expert, LOBES, BUILT_IN).pairs[0].prediction.numbers} == {3, 4, 5}


def test_missing_part_is_no_partner() -> None:
    """A lung without its middle lobe is no right lung: told, with what is missing."""
    expert = [Structure(1, "r", type=LUNG, laterality=RIGHT), Structure(2, "l", type=LUNG, laterality=LEFT)]
    pairing = pair_structures(expert, [*LOBES[:3], Structure(4, "x", type=LOWER, laterality=RIGHT)], BUILT_IN)
    assert [name for name, *_ in numbers(pairing)] == ["Left Lung"]
    (mine,) = (each for each in pairing.unpaired if each.side == "expert")
    assert (mine.code, mine.structure.name) == ("PARTS_MISSING", "r")
    assert "Middle lobe" in mine.reason


def test_exclusion() -> None:
    """The user's entry says that the expert's kidney is the model's less its cysts."""
    concept = Concept(KIDNEY, LEFT)
    entry = Entry("Kidney less cysts", concept, (concept,), (Concept(CYST, LEFT),), "prediction")
    expert = [Structure(1, "kidney", type=KIDNEY, laterality=LEFT)]
    model = [
        Structure(1, "kidney", type=KIDNEY, laterality=LEFT),
        Structure(2, "cyst", type=CYST, laterality=LEFT),
    ]
    (pair,) = pair_structures(expert, model, Crosswalk((entry,))).pairs
    assert pair.prediction == Part((1,), (2,), "Kidney less cysts")
    assert pair.expert == Part((1,))
    whole, cyst = np.ones((2, 3, 4), bool), np.zeros((2, 3, 4), bool)
    cyst[0, 0] = True
    assert pair.prediction.mask(annotation(model, {1: whole, 2: cyst})).voxels == 24 - 4
    assert numbers(pair_structures(expert, model[:1], Crosswalk((entry,)))) == [("Left Kidney", (1,), (1,))]


def annotation(structures: list[Structure], masks: dict[int, np.ndarray], **marks: object) -> Annotation:
    """Annotation on a grid of 2 x 3 x 4."""
    import highdicom as hd

    geometry = hd.VolumeGeometry(np.eye(4), (2, 3, 4), "PATIENT")
    packed = {number: pack(mask, (2, 3, 4)) for number, mask in masks.items()}
    return Annotation("1.2", "r", Origin("x", "x"), geometry, tuple(structures), packed, **marks)


def test_many_of_one_code_are_one_pair() -> None:
    """Nodules are taken together; the lesion metrics tell them apart."""
    nodules = [Structure(n, f"n{n}", type=NEOPLASM, anatomic_region=LUNG) for n in (1, 2, 3)]
    pairing = pair_structures(nodules, [Structure(1, "nodules", type=NEOPLASM, anatomic_region=LUNG)], BUILT_IN)
    assert numbers(pairing) == [("x of Lung", (1, 2, 3), (1,))]


def test_region_that_one_side_leaves_out() -> None:
    """A lesion without region is the model's only lesion, and neither of two."""
    expert = [Structure(1, "lesion", type=NEOPLASM)]
    of_liver, of_kidney = (Structure(n, "t", type=NEOPLASM, anatomic_region=r) for n, r in ((1, LIVER), (2, KIDNEY)))
    assert len(pair_structures(expert, [of_liver], BUILT_IN).pairs) == 1
    with pytest.raises(NothingPaired):
        pair_structures(expert, [of_liver, of_kidney], BUILT_IN)


def test_what_has_no_partner_is_listed() -> None:
    """Each structure without partner has its reason, on both sides."""
    expert = [
        Structure(1, "liver", type=LIVER),
        Structure(2, "GTV"),
        Structure(3, "thing", type=Code("X1", "99LOCAL", "Thing")),
        Structure(4, "old", type=Code("T-00000X", "SRT", "Old")),
        Structure(5, "kidney", type=KIDNEY),
    ]
    prediction = [Structure(1, "liver", type=LIVER), Structure(2, "neoplasm", type=NEOPLASM)]
    unpaired = pair_structures(expert, prediction, BUILT_IN).unpaired
    assert [(each.side, each.structure.name, each.code) for each in unpaired] == [
        ("expert", "GTV", "NO_CODE"),
        ("expert", "thing", "UNKNOWN_CODE"),
        ("expert", "old", "UNKNOWN_CODE"),
        ("expert", "kidney", "NO_PARTNER"),
        ("prediction", "neoplasm", "NO_PARTNER"),
    ]


def test_local_codes_on_both_sides_pair() -> None:
    """A code of no known scheme is the same as itself."""
    thing = Code("X1", "99LOCAL", "Thing")
    assert len(pair_structures([Structure(1, "a", type=thing)], [Structure(1, "b", type=thing)], BUILT_IN).pairs) == 1


def test_only_outlined_structures_are_scored() -> None:
    """A structure that is only pointed at has no mask to compare."""
    structures = [Structure(1, "a", type=LIVER), Structure(2, "b", type=KIDNEY)]
    marked = annotation(structures, {1: np.ones((2, 3, 4), bool)}, points=(MarkedPoint(2, (0, 0, 0)),))
    assert [each.name for each in outlined(marked)] == ["a"]


def test_union_of_lobes_has_all_voxels() -> None:
    """The mask of a union is that of any of its parts."""
    masks = {n: np.zeros((2, 3, 4), bool) for n in (1, 2, 3, 4, 5)}
    for n, mask in masks.items():
        mask[0, 0, : min(n, 4)] = True
        mask[1, n % 3] = True
    (pair,) = pair_structures([Structure(1, "lungs", type=LUNG)], LOBES, BUILT_IN).pairs
    expected = np.any(list(masks.values()), axis=0)
    assert np.array_equal(pair.prediction.mask(annotation(list(LOBES), masks)).whole(), expected)


def test_totalsegmentator_against_whole_lungs() -> None:
    """The package's own codes for its lobes are those that the crosswalk knows."""
    pytest.importorskip("totalsegmentator")
    from voxfleet.models.totalsegmentator.codes import coded

    names = [each.name for each in LOBES]
    found = [(n, name, coded(name)) for n, name in enumerate(names, start=1)]
    lobes = [Structure(n, name, c.category, c.type, c.laterality, c.region) for n, name, c in found if c]
    expert = [Structure(1, "r", type=LUNG, laterality=RIGHT), Structure(2, "l", type=LUNG, laterality=LEFT)]
    assert [(e, p) for _, e, p in numbers(pair_structures(expert, lobes, BUILT_IN))] == [
        ((1,), (3, 4, 5)),
        ((2,), (1, 2)),
    ]
