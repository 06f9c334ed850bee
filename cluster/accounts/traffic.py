"""Traffic: what a run's bytes, requests and stored objects cost beside its machines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain

from ...runners.consumption import Consumption
from ..ledger import Attempt, AttemptClass, Item, Run, Stored
from ..prices.price import LOCAL, Charge, Price, charge_of
from ..prices.rates import CHARGES

GIB = Decimal(2**30)
REQUESTS = Decimal(1000)
OWN_STORES = {"aws": ("s3",), "gcp": ("gs",)}
"""Archives that are a provider's own object store, by the scheme of their URI: traffic with them stays inside."""

OBJECT_STORES = ("s3", "gs")
REMOTE = ("http", "https", "dicomweb+http", "dicomweb+https", "dimse", *OBJECT_STORES)
"""Schemes of archives that are reached over a network."""


@dataclass(frozen=True, slots=True)
class Use:
    """What one attempt used of one thing that is charged.

    Attributes
    ----------
    amount : Decimal
        In the charge's own unit (`CHARGES`).
    usd : Decimal or None
        None: no price is known.
    """

    key: str
    fence: int
    stage: str
    kind: str
    amount: Decimal
    usd: Decimal | None


@dataclass(frozen=True, slots=True)
class Amounts:
    """Of every kind of charge: how much a run used in all, and at which price.

    Counted apart from the single uses, so that these can be held against it.
    """

    amount: Mapping[str, Decimal]
    charges: Mapping[str, Charge]

    @property
    def usd(self) -> Decimal:
        """Dollars of all that has a price."""
        return sum((self.amount[kind] * charge.usd for kind, charge in self.charges.items()), Decimal(0))

    @property
    def unpriced(self) -> tuple[str, ...]:
        """Kinds of which something was used and no price is known."""
        return tuple(kind for kind, amount in self.amount.items() if amount and kind not in self.charges)


@dataclass(frozen=True, slots=True)
class Charged:
    """What is charged beside machines.

    Attributes
    ----------
    kinds : frozenset of str
        Keys of `CHARGES`.
    source_reads, target_reads : bool
        Whether requests that read are charged by the archive of the series, and of the results.
    """

    kinds: frozenset[str]
    source_reads: bool = True
    target_reads: bool = True

    def also(self, kinds: Iterable[str]) -> Charged:
        """With more kinds, wherever the archives are."""
        more = frozenset(kinds)
        everywhere = "read-requests" in more
        return Charged(self.kinds | more, self.source_reads or everywhere, self.target_reads or everywhere)


def charged_by(run: Run, price: Price) -> Charged:
    """What is charged, by where the archives are.

    Nothing on the machine that the command runs on and on machines of one's own. In a cloud: requests
    to and storage in an object store; egress of what is written to an archive outside that cloud. NAT
    never: whether nodes stand behind one cannot be seen.
    """
    if price.machine == LOCAL or price.market == "owned":
        return Charged(frozenset(), source_reads=False, target_reads=False)
    source, target = _scheme(run.source), _scheme(run.target)
    kinds = []
    if target in REMOTE and target not in OWN_STORES.get(price.provider, ()):
        kinds.append("egress")
    if target in OBJECT_STORES:
        kinds += ["storage", "write-requests"]
    if source in OBJECT_STORES or target in OBJECT_STORES:
        kinds.append("read-requests")
    return Charged(frozenset(kinds), source in OBJECT_STORES, target in OBJECT_STORES)


def prices_of(charges: Sequence[Charge], kinds: Iterable[str], price: Price) -> dict[str, Charge]:
    """The price of each kind, where one is known for the machine's provider and region."""
    found = {kind: charge_of(charges, kind, price) for kind in kinds}
    return {kind: charge for kind, charge in found.items() if charge is not None}


def uses_of(
    attempts: Sequence[Attempt],
    items: Iterable[Item],
    stored: Iterable[Stored],
    charged: Charged,
    prices: Mapping[str, Charge],
) -> tuple[Use, ...]:
    """What each attempt used of each kind: bytes and objects as metered, a month of storage.

    Egress are the bytes written, NAT those read and written; a request reads one instance of a series
    each time it is retrieved, and one writes and one reads back each object stored. An attempt that
    failed or was lost counts with what it is known to have moved.
    """
    instances = {item.workitem.key: item.workitem.instances for item in items}
    objects: dict[str, list[int]] = {}
    for each in stored:
        if not each.object.already_there:
            objects.setdefault(each.key, []).append(each.object.bytes)
    uses = chain.from_iterable(
        _uses(attempt, instances.get(attempt.key, 0), objects.get(attempt.key, []), charged) for attempt in attempts
    )
    found = []
    for key, fence, stage, kind, amount in uses:
        if kind in charged.kinds and amount:
            usd = amount * prices[kind].usd if kind in prices else None
            found.append(Use(key, fence, stage, kind, amount, usd))
    return tuple(found)


def amounts_of(
    attempts: Sequence[Attempt],
    items: Iterable[Item],
    stored: Iterable[Stored],
    charged: Charged,
    prices: Mapping[str, Charge],
) -> Amounts:
    """How much of each kind the run used in all, from sums of bytes and objects."""
    used = [c for attempt in attempts for c in attempt.consumption]
    new = [each.object.bytes for each in stored if not each.object.already_there]
    retrieved = Counter(attempt.key for attempt in attempts if _retrieved(attempt.consumption))
    reads = len(new) if charged.target_reads else 0
    if charged.source_reads:
        reads += sum(retrieved[item.workitem.key] * item.workitem.instances for item in items)
    bytes_in, bytes_out = sum(c.bytes_in for c in used), sum(c.bytes_out for c in used)
    everything = {
        "egress": bytes_out / GIB,
        "nat": (bytes_in + bytes_out) / GIB,
        "storage": sum(new) / GIB,
        "write-requests": len(new) / REQUESTS,
        "read-requests": reads / REQUESTS,
    }
    return Amounts({kind: everything[kind] for kind in CHARGES if kind in charged.kinds}, dict(prices))


def _uses(
    attempt: Attempt, instances: int, objects: Sequence[int], charged: Charged
) -> Iterator[tuple[str, int, str, str, Decimal]]:
    """Key, fence, stage, kind and amount of all that an attempt may be charged for."""
    used = attempt.consumption
    for c in used:
        yield attempt.key, attempt.fence, c.stage, "egress", c.bytes_out / GIB
        yield attempt.key, attempt.fence, c.stage, "nat", (c.bytes_in + c.bytes_out) / GIB
    if charged.source_reads and _retrieved(used):
        yield attempt.key, attempt.fence, "retrieve", "read-requests", instances / REQUESTS
    if attempt.outcome is AttemptClass.COMPLETED and objects:
        number = len(objects) / REQUESTS
        yield attempt.key, attempt.fence, "store", "write-requests", number
        if charged.target_reads:
            yield attempt.key, attempt.fence, "store", "read-requests", number
        yield attempt.key, attempt.fence, "store", "storage", sum(objects) / GIB


def _retrieved(used: Iterable[Consumption]) -> bool:
    return any(c.stage == "retrieve" and c.bytes_in for c in used)


def _scheme(uri: str) -> str:
    head, colon, _ = uri.partition(":")
    return head.lower() if colon else ""
