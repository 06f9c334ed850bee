"""What a result cost stands in its provenance: read back by the ``prov`` library."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

from prov.model import ProvDocument
from voxfleet.cluster.accounts.result_cost import add_costs
from voxfleet.cluster.ledger import Run
from voxfleet.cluster.ledgers.sqlite import SqliteLedger
from voxfleet.cluster.prices.price import Price
from voxfleet.cluster.run_folder import RunFolder
from voxfleet.cluster.status.summary import summarise
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
