"""The loop over series: what is kept of cases whose reference is nobody's."""

from __future__ import annotations

from dataclasses import replace

from voxfleet.benchmarks.case import CaseResult, ClaimedFile
from voxfleet.benchmarks.case_loop import at_home, unshared
from voxfleet.benchmarks.score import Case, Score


def case_of(series: str, patient: str, path: str, *, by_grid: bool) -> CaseResult:
    """A scored series whose reference is one file."""
    score = Score(Case(patient, series, "model"), "Liver", "dice", 0.9, "1")
    return CaseResult(series, patient, readers=("reference",), scores=(score,), claimed=(ClaimedFile(path, by_grid),))


def test_one_file_of_two_patients() -> None:
    """A file that names nobody and fits two patients gives scores to neither, whoever came first."""
    cases = [case_of("1", "p", "liver.nii.gz", by_grid=True), case_of("2", "q", "liver.nii.gz", by_grid=True)]
    for case in unshared(cases):
        assert case.scores == ()
        assert [problem.code for problem in case.problems] == ["SHARED_REFERENCE"]


def test_one_file_of_two_series_of_a_patient() -> None:
    """Two series of one patient on one grid may share a file, and two patients one that names their series."""
    cases = [case_of("1", "p", "a.nii.gz", by_grid=True), case_of("2", "p", "a.nii.gz", by_grid=True)]
    cases += [case_of("3", "q", "b.dcm", by_grid=False), case_of("4", "r", "b.dcm", by_grid=False)]
    assert unshared(cases) == tuple(cases)


def test_a_file_of_a_frame_of_reference_is_of_the_series_on_whose_voxels_it_lies() -> None:
    """CT and PET of one frame, a SEG on the CT's voxels: the PET has none. Where it lies on neither, it is of both."""
    ct = case_of("1", "p", "lesion.dcm", by_grid=False)
    pet = replace(case_of("2", "p", "lesion.dcm", by_grid=False), claimed=(ClaimedFile("lesion.dcm", False, True),))
    assert at_home([ct, pet]) == (ct, CaseResult("2", "p"))
    assert at_home([pet, replace(pet, series_instance_uid="3")]) == (pet, replace(pet, series_instance_uid="3"))
    own = ClaimedFile("own.dcm", by_grid=False)
    _, both = at_home([ct, replace(pet, claimed=(own, *pet.claimed))])
    assert both.scores == pet.scores
    assert [problem.code for problem in both.problems] == ["OTHER_SERIES"]
