"""A collection is taken into the ledger; what cannot be listed leaves no run behind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from voxfleet import Error
from voxfleet.cluster.enrichment import Plan, register
from voxfleet.cluster.ledger import NoSuchRun, RunMismatch
from voxfleet.cluster.ledgers.sqlite import SqliteLedger
from voxfleet.cluster.price import price_of
from voxfleet.cluster.run_folder import RunFolder
from voxfleet.models import catalogue
from voxfleet.runners.worklist import wish


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """A run over a folder that holds one text file."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "README.txt").write_text("no DICOM")
    wishes = (wish(catalogue.card("ct-threshold"), {}, "BINARY", repair=False),)
    folder = RunFolder(f"{tmp_path}/run")
    return Plan(f"dir:{tmp_path}/source", f"dir:{tmp_path}/target", wishes, folder, price_of("local"))


def test_a_mistyped_source_leaves_the_name_of_the_run_free(plan, tmp_path):
    """After a source that is not there, the right one can be given under the same name."""
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    with pytest.raises(Error, match="no such folder"):
        register(replace(plan, source=plan.source + "-mistyped"), ledger, lambda _: None)
    with pytest.raises(NoSuchRun):
        ledger.run()
    register(plan, ledger, lambda _: None)
    assert ledger.run().source == plan.source
    assert [each.code for each in ledger.refusals()] == ["NOT_DICOM"]


def test_other_parameters_are_named_and_no_others(plan, tmp_path):
    """The error about a run of other work says which parameter differs, not all there are."""
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    register(plan, ledger, lambda _: None)
    other = wish(catalogue.card("ct-threshold"), {"bone_hu": "300"}, "BINARY", repair=False)
    with pytest.raises(RunMismatch) as found:
        register(replace(plan, wishes=(other,)), ledger, lambda _: None)
    card = catalogue.card("ct-threshold")
    assert str(found.value).endswith(
        f"it is of other work: parameters.ct-threshold.bone_hu is {card.parameters['bone_hu']}, not 300"
    )
