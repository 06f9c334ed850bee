"""What a result cost stands in its provenance: read back by the ``prov`` library."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from prov.model import ProvDocument
from voxfleet.cluster.accounts.result_cost import add_costs
from voxfleet.cluster.ledger import Run
from voxfleet.cluster.ledgers.sqlite import SqliteLedger
from voxfleet.cluster.prices.price import Price
from voxfleet.cluster.run_folder import RunFolder
from voxfleet.cluster.status.outputs import write_outputs
from voxfleet.cluster.status.progress import standing
from voxfleet.cluster.status.summary import summarise, to_json
from voxfleet.cluster.status.wording import paid_at
from voxfleet.runners.consumption import Consumption
from voxfleet.runners.workitem import Outcome, State, Workitem

TOY = Price("toy", "", "", "on-demand", Decimal(360), 2, "", 0, "a toy", date(2026, 11, 1))
ITEM = Workitem("1.2", "1.2.3", "CT", 10, "dir:/s", "dir:/t", "m", "1", "none", bytes=9)


def provenance(key: str, path: Path) -> None:
    """A document with one activity and one of its stages."""
    document = ProvDocument()
    document.add_namespace("vf", "urn:x-voxfleet:terms:")
    document.add_namespace("work", "urn:x-voxfleet:work:")
    began = datetime.now(UTC)
    document.activity(f"work:{key}-20261121T000000Z", began, began)
    document.activity(f"work:{key}-20261121T000000Z-stage-1", began, began)
    path.parent.mkdir(parents=True)
    path.write_text(document.serialize(format="json"))


def costs(path: Path) -> dict[str, dict[str, str]]:
    """What each activity of a document says of costs."""
    document = ProvDocument.deserialize(str(path), format="json")
    return {
        str(record.identifier): {str(name): str(value) for name, value in record.extra_attributes}
        for record in document.get_records()
        if record.get_type().localpart == "Activity"
    }


def test_a_result_says_what_it_cost(tmp_path: Path) -> None:
    """The activity gets dollars, source and date; its stage does not; again changes nothing; another price does."""
    folder = RunFolder(f"{tmp_path}/run")
    folder.path.mkdir()
    ledger = SqliteLedger(folder.ledger)
    ledger.create_run(Run("run", "dir:/s", "dir:/t", ("m 1",), {}, "0", "toy", datetime.now(UTC)))
    ledger.add([ITEM])
    ledger.node_up("n", "toy", "o")
    (lease,) = ledger.lease("o", 1)
    ledger.start(lease, "n")
    used = (Consumption("segment", datetime.now(UTC).timestamp(), 0.001, 0.001),)
    ledger.finish(lease, Outcome(ITEM.key, State.COMPLETED, used), "n")
    ledger.node_down("n", "o")
    path = folder.results / "1.2.3" / "m" / "provenance.json"
    provenance(ITEM.key, path)
    summary = summarise(ledger, TOY)
    assert add_costs(folder, summary) == 1
    whole, stage = costs(path).values()
    assert whole == {
        "vf:usd": str(summary.series[0].usd_loaded),
        "vf:price_source": "a toy",
        "vf:price_dated": "2026-11-01",
    }
    assert stage == {}
    assert add_costs(folder, summary) == 0
    assert add_costs(folder, summarise(ledger, replace(TOY, source="another toy"))) == 1


def test_a_result_of_a_node_with_a_price_of_its_own_names_that(tmp_path: Path) -> None:
    """Not the run's; the run's own document names both, and the day of the older one."""
    folder = RunFolder(f"{tmp_path}/run")
    folder.path.mkdir()
    ledger = SqliteLedger(folder.ledger)
    ledger.create_run(Run("run", "dir:/s", "dir:/t", ("m 1",), {}, "0", "toy", datetime.now(UTC), price=TOY))
    ledger.add([ITEM])
    own = replace(TOY, machine="dear", usd_per_hour=Decimal(900), source="a contract", dated=date(2026, 11, 2))
    ledger.node_up("n", "toy", "o")
    ledger.node_up("f", "dear", "o", "", own)
    (lease,) = ledger.lease("o", 1)
    ledger.start(lease, "f")
    used = (Consumption("segment", datetime.now(UTC).timestamp(), 0.001, 0.001),)
    time.sleep(0.01)
    ledger.finish(lease, Outcome(ITEM.key, State.COMPLETED, used), "f")
    ledger.node_down("n", "o")
    ledger.node_down("f", "o")
    path = folder.results / "1.2.3" / "m" / "provenance.json"
    provenance(ITEM.key, path)
    summary = summarise(ledger, TOY)
    write_outputs(folder, summary)
    (whole, _) = costs(path).values()
    assert (whole["vf:price_source"], whole["vf:price_dated"]) == ("a contract", "2026-11-02")
    told = costs(folder.path / "provenance.json").popitem()[1]
    assert sorted(told["vf:price_source"].split("; ")) == ["a contract", "a toy"]
    assert told["vf:price_dated"] == "2026-11-01"
    assert {row.price for row in summary.nodes} == {own, TOY}
    assert float(sum(row.usd for row in summary.nodes)) == pytest.approx(float(summary.money.total))
    for nodes in (summary.nodes, standing(ledger, ledger.run(), TOY).nodes):
        assert sorted("900 US$ an hour for dear" in line for line in paid_at(nodes, TOY)) == [False, True]
    document = json.loads(to_json(summary))
    assert {row["price"]["machine"] for row in document["nodes"]} == {"toy", "dear"}


def test_a_result_without_a_document_is_passed_over(tmp_path: Path) -> None:
    """Nothing is made where a result has no provenance on this machine."""
    folder = RunFolder(f"{tmp_path}/run")
    folder.path.mkdir()
    ledger = SqliteLedger(folder.ledger)
    ledger.create_run(Run("run", "dir:/s", "dir:/t", ("m 1",), {}, "0", "toy", datetime.now(UTC)))
    ledger.add([ITEM])
    (lease,) = ledger.lease("o", 1)
    ledger.start(lease, "n")
    ledger.finish(lease, Outcome(ITEM.key, State.COMPLETED), "n")
    assert add_costs(folder, summarise(ledger, TOY)) == 0
    assert not folder.results.exists()
