"""What a page tells, from scores written by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner
from voxfleet.benchmarks.case import CaseResult, Involvement, Rules, Volumes
from voxfleet.benchmarks.command import benchmark, predictions_of
from voxfleet.benchmarks.figures import figures_of
from voxfleet.benchmarks.plots import bland_altman_panels, box_plot, cost_panel, volume_panel
from voxfleet.benchmarks.references.reference import Reading
from voxfleet.benchmarks.score import Case, Score
from voxfleet.benchmarks.study import NothingToBenchmark, Predictions, Spending, Study, StudyResult

DICE = {
    # series, patient: Dice of liver and spleen by both models
    ("1", "p"): {"good": (0.9, 0.8), "bad": (0.5, 0.3)},
    ("2", "q"): {"good": (1.0, 0.9), "bad": (0.6, 0.1)},
}


def case_of(series: str, patient: str) -> CaseResult:
    """One series, its volumes and its lung involvement."""
    scores = tuple(
        Score(Case(patient, series, model), segment, "dice", value, "1")
        for model, values in DICE[series, patient].items()
        for segment, value in zip(("liver", "spleen"), values, strict=True)
    )
    ml = float(series)
    volumes = tuple(Volumes(model, "reference", "liver", 100 * ml, 100 * ml + 10 * ml) for model in ("good", "bad"))
    share = (Involvement("good", "reference", 20.0 * ml, 20.0 * ml + 10, "model"),)
    return CaseResult(series, patient, "CT", readers=("reference",), scores=scores, volumes=volumes, involvement=share)


@pytest.fixture
def result(tmp_path: Path) -> StudyResult:
    """Two models, two patients; the good one costs one and three cents."""
    rules = Rules(("ref",), Reading(), (1.0,))
    named = (Predictions("good", "a"), Predictions("bad", "b"))
    study = Study("dir:/ct", rules, (), named, tmp_path, "voxfleet benchmark")
    cases = tuple(case_of(*key) for key in DICE)
    return StudyResult(study, cases, (), (Spending("good", {"1": 0.01, "2": 0.03}, "a price"),), ())


def test_ranks_and_worst_cases(result: StudyResult) -> None:
    """The better mean leads; the worst case is the series with the least mean Dice, its worst structure first."""
    figures = figures_of(result)
    # good: (0.85 + 0.95) / 2; bad: (0.4 + 0.35) / 2
    board = [(row.model, row.mean) for row in figures.leaderboard]
    assert board == [("good", pytest.approx(0.9)), ("bad", pytest.approx(0.375))]
    worst = figures.worst[0]
    assert (worst.series_instance_uid, worst.model, worst.mean) == ("2", "bad", pytest.approx(0.35))
    assert worst.structures == (("spleen", 0.1), ("liver", 0.6))
    assert [(each.first, each.second, each.segment) for each in figures.comparisons] == [
        ("good", "bad", "all structures"),
        ("good", "bad", "liver"),
        ("good", "bad", "spleen"),
    ]


def test_swapped_sides_are_drawn_with_both_outlines(result: StudyResult) -> None:
    """Of structures without overlap the first, which is drawn, is the largest that expert and model both have."""
    case = Case("p", "1", "bad")
    scores = tuple(Score(case, segment, "dice", 0.0, "1") for segment in ("gone", "left lung", "nodule", "right lung"))
    sizes = {"gone": (9000.0, 0.0), "left lung": (1900.0, 2100.0), "nodule": (1.0, 1.0), "right lung": (2100.0, 2000.0)}
    volumes = tuple(Volumes("bad", "reference", segment, *both) for segment, both in sizes.items())
    (one, *_) = result.cases
    figures = figures_of(replace(result, cases=(replace(one, scores=scores, volumes=volumes),)))
    structures = [segment for segment, _ in figures.worst[0].structures]
    assert structures == ["right lung", "left lung", "nodule", "gone"]


def test_volumes_and_involvement(result: StudyResult) -> None:
    """Differences of 10 and 20 mL have a bias of 15; 20 and 40 % against 30 and 50 % are one class apart once."""
    figures = figures_of(result)
    assert figures.volumes[0].limits is not None
    assert figures.volumes[0].limits.bias == pytest.approx(15.0)
    (involvement,) = figures.involvement
    assert involvement.agreement is not None
    # mild as moderate, moderate as moderate
    assert involvement.agreement.confusion.tolist() == [[0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert involvement.agreement.limits.bias == pytest.approx(10.0)


def test_dice_over_dollars(result: StudyResult) -> None:
    """The priced model has the mean of its series' Dice at the mean of their cents."""
    (priced,) = figures_of(result).priced
    assert (priced.model, priced.series) == ("good", 2)
    assert priced.mean == pytest.approx(0.9)
    assert priced.cents == pytest.approx(2.0)
    assert priced.points == ((1.0, pytest.approx(0.85)), (3.0, pytest.approx(0.95)))


def test_plots_lie_within_their_pictures(result: StudyResult) -> None:
    """Boxes are in order of their values, dots within their panel, the worst structure on top."""
    figures = figures_of(result)
    plot = box_plot(figures, "dice", "Dice")
    assert plot is not None
    assert [name for name, _ in plot.rows] == ["spleen", "liver"]
    for box in plot.boxes:
        assert box.low <= box.q1 <= box.median <= box.q3 <= box.high
    panels = [volume_panel(figures), cost_panel(figures), *bland_altman_panels(figures)]
    dots = [dot for panel in panels if panel is not None for dot in panel.dots]
    assert len(dots) == 4 + 2 + 4
    assert all(46 <= dot.x <= 300 and 8 <= dot.y <= 254 for dot in dots)
    assert box_plot(figures, "iou", "IoU") is None


def test_uneven_series_are_not_compared(result: StudyResult) -> None:
    """A structure that one model was scored on in fewer series is named, and stops nothing."""
    first = result.cases[0]
    kept = tuple(s for s in first.scores if (s.case.model, s.segment) != ("bad", "spleen"))
    from dataclasses import replace

    figures = figures_of(replace(result, cases=(replace(first, scores=kept), result.cases[1])))
    assert figures.not_compared == ("spleen",)
    assert {each.segment for each in figures.comparisons} == {"all structures", "liver"}


def test_one_name_is_one_model(tmp_path: Path) -> None:
    """Two predictions of one name are refused, and so is a study of nothing."""
    rules = Rules(("ref",), Reading(), (1.0,))
    twice = (Predictions("a", "x"), Predictions("a", "y"))
    with pytest.raises(NothingToBenchmark, match="PLACE=NAME"):
        Study("dir:/ct", rules, (), twice, tmp_path, "")
    with pytest.raises(NothingToBenchmark, match="--model"):
        Study("dir:/ct", rules, (), (), tmp_path, "")


@pytest.mark.parametrize(
    ("text", "name", "place"),
    [
        ("segs/", "segs", "segs/"),
        ("a/masks.nii.gz", "masks", "a/masks.nii.gz"),
        ("segs=nnunet", "nnunet", "segs"),
        ("dicomweb+https://host/a?x=1/b", "b", "dicomweb+https://host/a?x=1/b"),
    ],
)
def test_predictions_and_their_name(text: str, name: str, place: str) -> None:
    """What stands behind the last = is the name, unless it is part of a path."""
    assert predictions_of(text) == Predictions(name, place)


@pytest.mark.parametrize(
    ("option", "number"), [("--tolerance", "-1"), ("--tolerance", "nan"), ("--threshold", "3"), ("--threshold", "0")]
)
def test_numbers_without_a_meaning(tmp_path: Path, option: str, number: str) -> None:
    """They are refused as part of the command line, before anything is looked for."""
    commands = typer.Typer()
    commands.command()(benchmark)
    words = ["nowhere", "-r", "nowhere", "-o", str(tmp_path / "out"), option, number]
    done = CliRunner().invoke(commands, words, env={"COLUMNS": "200"})
    assert (done.exit_code, f"Invalid value for {option}" in done.output) == (2, True)
    assert not (tmp_path / "out").exists()
