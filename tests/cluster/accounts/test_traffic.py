"""What is charged beside machines: on paper, and as an identity over random runs."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from voxfleet.cluster.accounts.traffic import Charged, amounts_of, charged_by, prices_of, uses_of
from voxfleet.cluster.ledger import Attempt, AttemptClass, Item, Run, Stored
from voxfleet.cluster.prices.price import Charge, Price
from voxfleet.cluster.prices.rates import CHARGES
from voxfleet.enrich.archives.archive import StoredObject
from voxfleet.runners.consumption import Consumption
from voxfleet.runners.workitem import State, Workitem

DAY = date(2026, 11, 1)
T0 = datetime(2026, 11, 21, tzinfo=UTC)
GIB = 2**30
USD = {"egress": "0.09", "nat": "0.045", "storage": "0.023", "write-requests": "0.005", "read-requests": "0.0004"}
CHARGED = tuple(Charge(kind, "aws", "us-east-1", Decimal(usd), "paper", DAY) for kind, usd in USD.items())
AWS = Price("g4dn.xlarge", "aws", "us-east-1", "on-demand", Decimal("0.526"), 4, "T4", 1, "paper", DAY)
EVERYTHING = Charged(frozenset(CHARGES))


def run(source: str, target: str) -> Run:
    """A run from one archive to another."""
    return Run("r", source, target, ("m 1",), {}, "0", "g4dn.xlarge", T0)


def item(key: str, instances: int) -> Item:
    """A series of so many instances."""
    work = Workitem("1", f"1.{key}", "CT", instances, "s3://b", "s3://c", "m", "1", "none", bytes=None)
    return Item(_Keyed(work, key), State.COMPLETED, 0, 0)  # type: ignore[arg-type]


class _Keyed:
    """A workitem under a key of our own."""

    def __init__(self, work: Workitem, key: str) -> None:
        self.key, self.instances = key, work.instances


def attempt(key: str, fence: int, bytes_in: int, bytes_out: int, outcome: AttemptClass) -> Attempt:
    """One that retrieved and stored so many bytes."""
    used = (
        Consumption("retrieve", T0.timestamp(), 1, 0, bytes_in=bytes_in),
        Consumption("store", T0.timestamp() + 1, 1, 0, bytes_out=bytes_out),
    )
    return Attempt(key, fence, "o", "n", T0, T0, outcome, None, used)


def stored(key: str, size: int, already_there: bool = False) -> Stored:
    """An object in the target archive."""
    return Stored(key, StoredObject("1", "2", "3", "s3://c/x", "00", size, already_there))


def test_by_hand() -> None:
    """A series of 200 instances tried twice, of which one SEG and one SR came: the sums done on paper."""
    attempts = [
        attempt("a", 1, GIB, 0, AttemptClass.LOST),
        attempt("a", 2, GIB, 2 * GIB, AttemptClass.COMPLETED),
    ]
    objects = [stored("a", 2 * GIB - 1000), stored("a", 1000), stored("a", 5, already_there=True)]
    prices = prices_of(CHARGED, EVERYTHING.kinds, AWS)
    uses = uses_of(attempts, [item("a", 200)], objects, EVERYTHING, prices)
    spent: dict[tuple[int, str], Decimal] = {}
    for use in uses:
        assert use.usd is not None
        spent[use.fence, use.kind] = spent.get((use.fence, use.kind), Decimal(0)) + use.usd
    assert spent == {
        (1, "nat"): Decimal("0.045"),  # 1 GiB in
        (1, "read-requests"): Decimal("0.00008"),  # 200 x 0.0004 / 1000
        (2, "nat"): Decimal("0.135"),  # 1 GiB in, 2 out
        (2, "egress"): Decimal("0.18"),  # 2 GiB out
        (2, "read-requests"): Decimal("0.0000808"),  # 200 instances, and 2 objects read back
        (2, "write-requests"): Decimal("0.00001"),  # 2 x 0.005 / 1000
        (2, "storage"): Decimal("0.046"),  # 2 GiB for a month
    }
    assert amounts_of(attempts, [item("a", 200)], objects, EVERYTHING, prices).usd == sum(spent.values())


@pytest.mark.parametrize(
    ("source", "target", "kinds"),
    [
        ("dir:/a", "dir:/b", set()),
        ("dicomweb+https://pacs/a", "dicomweb+https://pacs/b", {"egress"}),
        ("s3://idc-open-data", "s3://mine", {"storage", "write-requests", "read-requests"}),
        ("s3://idc-open-data", "dir:/b", {"read-requests"}),
        ("dicomweb+https://pacs/a", "gs://mine", {"egress", "storage", "write-requests", "read-requests"}),
    ],
)
def test_what_is_charged_follows_from_where_the_archives_are(source: str, target: str, kinds: set[str]) -> None:
    """Inside the provider's own store nothing leaves it; NAT is priced on request only."""
    assert charged_by(run(source, target), AWS).kinds == kinds
    assert charged_by(run(source, target), AWS).also(["nat"]).kinds == kinds | {"nat"}


@pytest.mark.parametrize("market", ["owned", "on-demand"])
def test_ones_own_machines_are_charged_for_nothing_else(market: str) -> None:
    """Neither this machine, which is only priced as if it were a cloud's, nor an owned one."""
    price = Price(
        "local" if market == "on-demand" else "dgx", "aws", "us-east-1", market, Decimal(1), 4, "", 0, "p", DAY
    )
    assert not charged_by(run("s3://a", "https://b"), price).kinds


def test_requests_are_charged_by_the_store_that_is_asked() -> None:
    """Series from a bucket to a folder: instances are read, and nothing is read back."""
    charged = charged_by(run("s3://a", "dir:/b"), AWS)
    prices = prices_of(CHARGED, charged.kinds, AWS)
    attempts = [attempt("a", 1, 5, 5, AttemptClass.COMPLETED)]
    (use,) = uses_of(attempts, [item("a", 1000)], [stored("a", 5)], charged, prices)
    assert (use.kind, use.amount, use.usd) == ("read-requests", 1, Decimal("0.0004"))


def test_what_has_no_price_is_told() -> None:
    """In a region without a price nothing is taken for free."""
    elsewhere = Price("g4dn.xlarge", "aws", "eu-west-9", "on-demand", Decimal(1), 4, "T4", 1, "p", DAY)
    prices = prices_of(CHARGED, ["egress"], elsewhere)
    charged = Charged(frozenset({"egress"}))
    attempts = [attempt("a", 1, 5, GIB, AttemptClass.COMPLETED)]
    assert amounts_of(attempts, [item("a", 1)], [], charged, prices).unpriced == ("egress",)
    assert [use.usd for use in uses_of(attempts, [item("a", 1)], [], charged, prices)] == [None]


TRIES = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 10**12), st.integers(0, 10**12), st.sampled_from([*AttemptClass])),
    max_size=12,
)
OBJECTS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 10**11), st.booleans()), max_size=6)


@settings(max_examples=200, deadline=None)
@given(
    tries=TRIES,
    objects=OBJECTS,
    kinds=st.sets(st.sampled_from([*CHARGES])),
    reads=st.tuples(st.booleans(), st.booleans()),
)
def test_identity(
    tries: list[tuple[str, int, int, AttemptClass]],
    objects: list[tuple[str, int, bool]],
    kinds: set[str],
    reads: tuple[bool, bool],
) -> None:
    """Amounts of the whole run times prices = the sum over its attempts, to 1e-6, whatever failed."""
    done: set[str] = set()
    attempts = []
    for fence, (key, bytes_in, bytes_out, outcome) in enumerate(tries):
        # A ledger takes one result of a workitem.
        real = AttemptClass.FAILED if outcome is AttemptClass.COMPLETED and key in done else outcome
        if real is AttemptClass.COMPLETED:
            done.add(key)
        attempts.append(attempt(key, fence, bytes_in, bytes_out, real))
    new = [stored(*each) for each in objects if each[0] in done]
    items = [item(key, 100 + number) for number, key in enumerate("abc")]
    charged = Charged(frozenset(kinds), *reads)
    prices = prices_of(CHARGED, charged.kinds, AWS)
    shares = sum((use.usd or Decimal(0) for use in uses_of(attempts, items, new, charged, prices)), Decimal(0))
    reckoned = amounts_of(attempts, items, new, charged, prices).usd
    assert float(shares) == pytest.approx(float(reckoned), rel=1e-6, abs=1e-12)
