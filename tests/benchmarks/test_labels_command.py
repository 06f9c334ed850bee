"""``voxfleet benchmark-labels`` as a user calls it, and what it makes of odd labels."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from voxfleet.benchmarks.image_labels import ImageLabel, LabelsUnusable, Question, questions_of, read_reader_labels
from voxfleet.benchmarks.label_agreement import AGREED, NO_LABEL, answer

GRADES = ("Mild Opacities", "Moderate Opacities", "Severe Opacities")
READINGS = {
    # study: labels of readers U_1, U_2 and U_3, and of the adjudicator U_4; by the first letter
    "1.2.1": ("MMM", ""),
    "1.2.2": ("MMO", ""),
    "1.2.3": ("OOO", ""),
    "1.2.4": ("SSO", "S"),
    "1.2.5": ("MOS", "O"),
    "1.2.6": ("MOS", ""),
}
NAMES = {"M": GRADES[0], "O": GRADES[1], "S": GRADES[2]}


def voxfleet(*words: object) -> subprocess.CompletedProcess[str]:
    """The console script in a process of its own."""
    command = [sys.executable, "-m", "voxfleet", "benchmark-labels", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """Six radiographs as MD.ai exports RICORD's, with a label that is of no grade."""
    ids = {name: f"L_{number}" for number, name in enumerate((*GRADES, "Invalid Study"))}
    labels = [
        {"id": key, "name": name, "type": "GLOBAL", "scope": "STUDY", "annotationMode": None}
        for name, key in ids.items()
    ]
    annotations = [
        {"StudyInstanceUID": study, "labelId": ids[NAMES[letter]], "createdById": f"U_{number}", "data": None}
        for study, (readers, adjudicator) in READINGS.items()
        for number, letter in [*enumerate(readers, start=1), *((4, letter) for letter in adjudicator)]
    ]
    annotations.append({"StudyInstanceUID": "1.2.6", "labelId": ids["Invalid Study"], "createdById": "U_1"})
    path = tmp_path / "ricord.json"
    groups = [{"id": "G_1", "name": "CXR", "labels": labels}]
    path.write_text(json.dumps({"labelGroups": groups, "datasets": [{"id": "D", "annotations": annotations}]}))
    return path


@pytest.mark.slow
def test_radiographs_with_a_model(export: Path, tmp_path: Path) -> None:
    """RICORD's rule, kappas by hand, a model with a radiograph left out, and one nobody can settle."""
    table = tmp_path / "net.csv"
    table.write_text("study,label\n1.2.1,Mild Opacities\n1.2.2,Moderate Opacities\n1.2.3,Moderate Opacities\n1.2.4,Severe Opacities\n")  # fmt: skip  # noqa: E501
    out = tmp_path / "out"
    done = voxfleet(
        export, "-p", f"{table}=net", "--adjudicator", "U_4", "--categories", ",".join(GRADES), "-o", out, "--json"
    )
    assert done.returncode == 3, done.stderr
    document = json.loads(done.stdout)
    (question,) = document["questions"]
    # Six studies of three readers; 7 mild, 7 moderate, 4 severe of 18. Pairs that agree: 3, 1, 3, 1, 0, 0 of 3 each.
    seen, chance = (1 + 1 / 3 + 1 + 1 / 3) / 6, (49 + 49 + 16) / 18**2
    assert question["fleiss_kappa"] == pytest.approx((seen - chance) / (1 - chance))
    assert (question["readers"], question["images_agreed"]) == (["U_1", "U_2", "U_3"], 5)
    agreed = {row["image"]: (row["label"], row["decided_by"]) for row in rows_of(out / "agreed-labels.csv")}
    assert agreed == {
        "1.2.1": (GRADES[0], "all readers"),
        "1.2.2": (GRADES[0], "majority"),
        "1.2.3": (GRADES[1], "all readers"),
        "1.2.4": (GRADES[2], "majority"),
        "1.2.5": (GRADES[1], "adjudicator"),
    }
    assert [(row["code"], row["image"]) for row in document["label_problems"]] == [("NO_MAJORITY", "1.2.6")]
    assert document["labels_left_out"] == {"Invalid Study": 1}
    scores = {(row["model"], row["reference"]): row for row in document["label_agreement"]}
    net = scores["net", AGREED]
    assert (net["images"], net["failed"], net["accuracy"]) == (5, 1, pytest.approx(3 / 5))
    # Agreed: 2 mild, 2 moderate, 1 severe; the model: 1, 2, 1 and one without.
    by_chance = (2 * 1 + 2 * 2 + 1 * 1) / 25
    assert net["kappa"] == pytest.approx((3 / 5 - by_chance) / (1 - by_chance))
    assert net["kappa_linear"] is None
    # U_1: M M O S M M; U_2: M M O S O O. Four agree; by chance 4 x 2, 1 x 3 and 1 x 1 of 36.
    pair = scores["U_2", "U_1"]
    assert pair["kappa"] == pytest.approx((4 / 6 - 12 / 36) / (1 - 12 / 36))
    assert pair["kappa_linear"] > pair["kappa"]
    page = (out / "report.html").read_text()
    assert all(text in page for text in (*GRADES, "NO_MAJORITY", f"{question['fleiss_kappa']:.4f}", NO_LABEL))


@pytest.mark.slow
def test_sarcoma_export(shared_data: Path, tmp_path: Path) -> None:
    """The export's one label by its one reader is the agreed one, and nothing is made of kappas."""
    done = voxfleet(shared_data / "sarcoma-rtstruct-sts002" / "mdai_annotations_derived.json", "-o", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 images have a label" in done.stdout
    (row,) = rows_of(tmp_path / "agreed-labels.csv")
    assert row["label"] == "QA- adequate"
    unknown = voxfleet(
        shared_data / "sarcoma-rtstruct-sts002" / "mdai_annotations_derived.json", "-o", tmp_path, "--adjudicator", "me"
    )
    assert unknown.returncode == 1
    assert "LABELS_UNUSABLE" in unknown.stderr
    assert "readers are U_1" in unknown.stderr


def test_table_of_readers(tmp_path: Path) -> None:
    """A CSV table says the same; its lines are judged."""
    path = tmp_path / "readers.csv"
    path.write_text("series,reader,label\n1.2,ann,yes\n1.3,ben,no\n")
    assert read_reader_labels(path) == (ImageLabel("1.2", "ann", "yes"), ImageLabel("1.3", "ben", "no"))
    path.write_text("series,reader,label\n1.2,ann,\n")
    with pytest.raises(LabelsUnusable, match="line 2 lacks label"):
        read_reader_labels(path)
    path.write_text("uid,label\n1.2,yes\n")
    with pytest.raises(LabelsUnusable, match="it needs one of image, series, study, reader, label"):
        read_reader_labels(path)


def test_several_labels_of_one_reader_are_none() -> None:
    """A reader of two minds on an image has no say there, and is told of."""
    labels = [ImageLabel("1", "ann", "a"), ImageLabel("1", "ann", "b"), ImageLabel("1", "ben", "b")]
    found = answer(Question(("a", "b"), ordered=False), labels, [])
    assert found.agreed["1"].label == "b"
    assert [(each.code, each.rater) for each in found.problems] == [("SEVERAL_LABELS", "ann")]
    assert found.scores == ()


@pytest.mark.parametrize(("categories", "told"), [(["a"], "two or more"), (["a,b", "b,c"], "is there twice")])
def test_questions_that_are_none(categories: list[str], told: str) -> None:
    """One category is no question, and a label answers one question only."""
    with pytest.raises(LabelsUnusable, match=told):
        questions_of(categories, [])


def rows_of(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
