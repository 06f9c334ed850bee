"""What the sources of prices share: what is wanted of them, and how a file or an address is read.

A source is a function ``read(place, wanted)`` that yields prices, offered as an entry point of the
group ``voxfleet.prices``. It is called by ``voxfleet prices refresh`` and by nothing else: no other
command goes to the network for a price.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import entry_points
from pathlib import Path
from typing import IO, Protocol, cast

import requests

from .rates import Price, PriceError

ENTRY_POINTS = "voxfleet.prices"
"""Group in which this and other packages offer sources: name = function ``read``."""

TIMEOUT_S = (10.0, 60.0)
"""To connect, and between two parts of an answer."""

GPUS = {
    "T4": "T4",
    "L4": "L4",
    "A10G": "A10G",
    "L40S": "L40S",
    "V100": "V100",
    "A100": "A100-40GB",
    "A100-80GB": "A100-80GB",
    "H100": "H100",
}
"""Names of GPUs, from the catalogues' to ours."""


class RefreshError(PriceError):
    """A source of prices cannot be reached, or is not what it should be."""

    code = "PRICE_REFRESH"
    retryable = True


class UnknownSource(PriceError):
    """No source of prices of that name."""

    code = "UNKNOWN_PRICE_SOURCE"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Of which machines and regions prices are wanted.

    Attributes
    ----------
    machines : mapping of str to Price or None
        Name as in the table, e.g. ``n1-standard-4+t4``; and a known price of it, which tells its cores,
        memory and GPUs, if there is one.
    regions : frozenset of str
        Empty: all.
    """

    machines: Mapping[str, Price | None]
    regions: frozenset[str] = frozenset()

    def region(self, name: str) -> bool:
        """Whether that region is wanted."""
        return not self.regions or name in self.regions

    def of(self, provider: str) -> dict[str, Price]:
        """The machines of one provider of which something is known."""
        known = {name: price for name, price in self.machines.items() if price is not None}
        return {name: price for name, price in known.items() if price.provider == provider}


class Source(Protocol):
    """Reads the prices of one source."""

    def __call__(self, place: str, wanted: Wanted) -> Iterable[Price]:
        """Prices at `place`, a file or an address; empty: where the source publishes them. Raises RefreshError."""
        ...


def source(name: str) -> Source:
    """The source of that name; raises UnknownSource."""
    offered = {each.name: each for each in entry_points(group=ENTRY_POINTS)}
    if name not in offered:
        raise UnknownSource(name, f"no such source of prices; there are {', '.join(sorted(offered))}")
    return cast(Source, offered[name].load())


def is_address(place: str) -> bool:
    """Whether a place is on the network."""
    return place.startswith(("http://", "https://"))


@contextmanager
def opened(place: str) -> Iterator[tuple[IO[bytes], date]]:
    """Bytes of a file or an address, as a stream, and the day on which they were made.

    That day is an address's Last-Modified, or else today; and a file's time of modification.

    Raises
    ------
    RefreshError
        If it cannot be read; the message holds no query of an address: a key may stand in it.
    """
    shown = place.partition("?")[0]
    try:
        if not is_address(place):
            path = Path(place)
            with path.open("rb") as file:
                yield file, datetime.fromtimestamp(path.stat().st_mtime, UTC).date()
            return
        with requests.get(place, stream=True, timeout=TIMEOUT_S) as answer:
            if not answer.ok:
                raise RefreshError(shown, f"answers {answer.status_code} {answer.reason}")
            answer.raw.decode_content = True
            yield cast(IO[bytes], answer.raw), _modified(answer.headers.get("Last-Modified"))
    except requests.RequestException as exc:
        raise RefreshError(shown, f"cannot be reached ({type(exc).__name__}); a file can be given instead") from exc
    except OSError as exc:
        raise RefreshError(shown, f"cannot be read: {exc.strerror or type(exc).__name__}") from exc


def _modified(header: str | None) -> date:
    today = datetime.now(UTC).date()
    if header is None:
        return today
    try:
        return min(parsedate_to_datetime(header).date(), today)
    except ValueError:
        return today
