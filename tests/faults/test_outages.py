"""An archive that is away for a while is the infrastructure's fault: what met it waits, and is done later."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
import requests
from voxfleet.cluster.drivers.local_cell import LocalCell, run_locally
from voxfleet.cluster.ledger import AttemptClass, Run
from voxfleet.cluster.ledgers.sqlite import SqliteLedger
from voxfleet.enrich.archives.archive import ReadBackDiffers, SearchUnanswered, StoreConflict, StoreError, StoreRefused
from voxfleet.enrich.archives.dimse.errors import DimseFault, FaultKind
from voxfleet.enrich.archives.opening import open_archive
from voxfleet.enrich.archives.outage import is_outage
from voxfleet.enrich.phantom import CtIdentity, chest_phantom, write_ct_series
from voxfleet.models import catalogue
from voxfleet.runners.pipeline import PipelineSettings
from voxfleet.runners.request import StageSettings
from voxfleet.runners.worklist import wish, worklist

if TYPE_CHECKING:
    from conftest import Account


@pytest.fixture
def proxy(
    moto: Any, make_prefix: Callable[[str], str], faulty_proxy: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Any, str]]:
    """A proxy to a real S3 server, and a prefix there."""
    prefix = make_prefix("moto")
    with faulty_proxy.spoiling(moto.url) as spoiler:
        monkeypatch.setenv("AWS_ENDPOINT_URL", spoiler.url)
        yield spoiler, prefix


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("fault", [503, "drop"])
def test_the_store_is_away_while_a_series_is_written(
    proxy: tuple[Any, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, account: Account, fault: int | str
) -> None:
    """It answers 503, or nothing, until the first series has met it: lost, not failed; tried again after a pause, done.

    The store holds what the ledger says, once.
    """
    monkeypatch.setattr("voxfleet.cluster.ledgers.attempt.PAUSES_S", (0.5,))
    spoiler, target = proxy
    phantom = chest_phantom(shape=(24, 64, 64), spacing_mm=(12.0, 5.6, 5.6), seed=1)
    write_ct_series(phantom.volume, tmp_path / "in", identity=CtIdentity.named("outage"))
    source = open_archive(f"dir:{tmp_path / 'in'}")
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    ledger.create_run(Run("r", source.uri, target, ("ct-threshold 1.0",), {}, "0.1.0", "local", datetime.now(UTC)))
    ledger.add(worklist(source, (wish(catalogue.card("ct-threshold"), {}, "BINARY", repair=False),), target))
    away = threading.Event()
    away.set()
    spoiler.fault = lambda method, _: fault if away.is_set() and method == "PUT" else None

    def observe() -> None:
        if any(attempt.outcome is AttemptClass.LOST for attempt in ledger.attempts()):
            away.clear()

    pipeline = PipelineSettings(StageSettings(tmp_path / "scratch", tmp_path / "results", "n"))
    cell = LocalCell(pipeline, "local", "o")
    run_locally(ledger, cell, may_lease=lambda _: True, observe=observe, stop=threading.Event())
    held = {entry.series_instance_uid for entry in open_archive(target).search()}  # type: ignore[union-attr]
    account.settle(ledger, held=len(held))
    (item,) = ledger.items()
    assert (item.fails, item.losses) == (0, 1)
    lost, done = ledger.attempts()
    assert (lost.outcome, done.outcome) == (AttemptClass.LOST, AttemptClass.COMPLETED)
    assert lost.failure is not None
    assert (lost.failure.code, lost.failure.stage, lost.failure.outage) == ("STORE_FAILED", "store", True)
    assert held == {each.object.series_instance_uid for each in ledger.stored()}
    assert len(held) == 2
    ledger.close()


def _raised(error: Exception, cause: Exception | None) -> Exception:
    try:
        raise error from cause
    except type(error) as exc:
        return exc


def _answered(status: int) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError(response=response)


@pytest.mark.parametrize(
    ("error", "cause", "outage"),
    [
        (StoreError, _answered(503), True),
        (StoreError, _answered(429), True),
        (StoreError, requests.ConnectTimeout(), True),
        (StoreError, requests.ConnectionError(), True),
        (StoreError, requests.exceptions.ChunkedEncodingError(), False),
        (StoreError, OSError(5, "Input/output error"), False),
        (StoreError, None, False),
        (StoreRefused, _answered(400), False),
        (ReadBackDiffers, None, False),
        (StoreConflict, _answered(503), False),
        (SearchUnanswered, None, True),
        (StoreError, DimseFault(FaultKind.PASSING, "no association"), True),
        (StoreError, DimseFault(FaultKind.FULL, "out of resources"), False),
        (ValueError, requests.ConnectionError(), False),
    ],
)
def test_an_outage_is_told_from_an_objects_own_fault(
    error: Callable[..., Exception], cause: Exception | None, outage: bool
) -> None:
    """No answer, and a server's own trouble, are one; refused, cut, changed and unwritable objects are not."""
    words = ("dicomweb+https://a", "1.2", "not stored") if error is not ValueError else ("no",)
    assert is_outage(_raised(error(*words), cause)) is outage
