"""IDC's rules over our reports, and over reports that break one rule each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from pydicom import Dataset
from voxfleet.enrich.radiomics import measure
from voxfleet.enrich.seg import encode_seg
from voxfleet.enrich.series import SourceImage
from voxfleet.enrich.sr import encode_sr
from voxfleet.enrich.submission.idc_rules import check_for_idc, load


@pytest.fixture
def pair_of(tiny_source: SourceImage, case_of) -> Callable[..., tuple[Dataset, Dataset]]:
    """SEG and SR of a real chest CT."""

    def make(segmentation_type: str = "BINARY", *, overlapping: bool = True) -> tuple[Dataset, Dataset]:
        case = case_of(tiny_source, overlapping=overlapping)
        seg = encode_seg(case.source, case.segmentation, case.producer, segmentation_type=segmentation_type)
        measured = measure(case.source.volume, case.segmentation)
        return seg, encode_sr(case.source, seg, case.segmentation, measured, case.producer)

    return make


def written(folder: Path, *datasets: Dataset) -> list[Path]:
    """The data sets as files."""
    paths = []
    for number, dataset in enumerate(datasets):
        paths.append(folder / f"{number}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def groups_of(sr: Dataset) -> list[Dataset]:
    """Measurement groups, the fifth item below the root of a TID 1500 holding them."""
    return [group for part in sr.ContentSequence for group in part.get("ContentSequence", ())
            if group.ConceptNameCodeSequence[0].CodeMeaning == "Measurement Group"]  # fmt: skip


def test_every_group_and_measurement_is_in_the_tables(pair_of, tmp_path):
    """As many rows come out of the joins as groups and numbers were written, each with its segment."""
    seg, sr = pair_of()
    groups = groups_of(sr)
    numbers = sum(item.ValueType == "NUM" for group in groups for item in group.ContentSequence)
    with duckdb.connect(":memory:") as database:
        load(database, written(tmp_path, seg, sr))
        segments = database.execute("SELECT segmentation, segment_number FROM measurement_groups ORDER BY 2").fetchall()
        values = database.execute(
            "SELECT count(*), count(value), count(unit) FROM quantitative_measurements"
        ).fetchall()
    wanted = sorted(int(item.ReferencedSOPSequence[0].ReferencedSegmentNumber) for group in groups
                    for item in group.ContentSequence if item.ValueType == "IMAGE")  # fmt: skip
    assert segments == [(str(seg.SOPInstanceUID), number) for number in wanted]
    assert values == [(numbers, numbers, numbers)]
    found = check_for_idc(written(tmp_path, seg, sr))
    assert (found.sound, found.reports, found.groups, found.measurements) == (True, 1, len(groups), numbers)


def _without(code: str) -> Callable[[Dataset], None]:
    def change(sr: Dataset) -> None:
        group = groups_of(sr)[0]
        kept = [item for item in group.ContentSequence if item.ConceptNameCodeSequence[0].CodeValue != code]
        assert len(kept) < len(group.ContentSequence)
        group.ContentSequence = kept

    return change


def _renamed(sr: Dataset) -> None:
    groups_of(sr)[0].ConceptNameCodeSequence[0].CodeMeaning = "Measurement group"


def _other_template(sr: Dataset) -> None:
    sr.ContentTemplateSequence[0].TemplateIdentifier = "1501"


def _no_number(sr: Dataset) -> None:
    number = next(item for item in groups_of(sr)[0].ContentSequence if item.ValueType == "NUM")
    number.MeasuredValueSequence[0].NumericValue = None


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (_without("112039"), "Tracking Identifier"),
        (_without("112040"), "Tracking Unique Identifier"),
        (_without("121071"), "Finding (121071"),
        (_without("363698007"), "Finding Site"),
        (_without("121232"), "Source series"),
        (_without("121191"), "no segment of a SEG"),
        (_renamed, "Measurement Group"),
        (_other_template, "TID 1500"),
        (_no_number, "casts to NUMERIC"),
    ],
)
def test_what_a_report_breaks_is_named(pair_of, tmp_path, change, rule):
    """A report that lacks one item of IDC's inner joins loses that group, and the rule is told."""
    seg, sr = pair_of()
    change(sr)
    found = check_for_idc(written(tmp_path, seg, sr))
    assert not found.sound
    assert any(rule in each.rule for each in found.broken)
    assert (found.groups_listed < found.groups) != (change is _no_number)


def test_report_whose_seg_is_not_there_or_of_another_class(pair_of, tmp_path):
    """Groups of a report alone, and of one on a Label Map SEG (66.7), are in no table."""
    _, sr = pair_of()
    alone = check_for_idc(written(tmp_path, sr))
    labelmap = check_for_idc(written(tmp_path, *pair_of("LABELMAP", overlapping=False)))
    for found in (alone, labelmap):
        assert (found.groups > 0, found.groups_listed, found.measurements_listed) == (True, 0, 0)
        assert {each.rule for each in found.broken} == {
            "refers to no segment of a SEG of the class 66.4 that is submitted with it"
        }
