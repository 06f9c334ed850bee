"""Objects that an archive does not take: whose fault it seems, when they are tried again, when they are left."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic

PAUSES_S = (15.0, 60.0, 240.0, 960.0)
"""After the first, second, ... failure that counts as an object's own, before it is tried again; then it is left."""

SHORTEST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 60.0
"""Before anything is tried after one failure, and after many with nothing taken between."""

TAKES_NOTHING_S = 3600.0
"""An archive that answers, and took nothing for so long since an object first failed, will not take that one later."""


@dataclass(slots=True)
class _Delayed:
    """An object that failed; `taken` is how many others were taken before it first did, at the time `since`."""

    taken: int
    since: float
    reason: str = ""
    failures: int = 0
    due: float = 0.0


class Delays:
    """What failed and may pass, while objects go to one archive.

    Where all fail it is the archive, and it is waited for. Where others were taken after an object first failed,
    it is the object: what it fails from then on counts, and in the end it is left.
    """

    def __init__(self) -> None:
        self._delayed: dict[str, _Delayed] = {}
        self._taken = self._in_a_row = 0
        self._away = -math.inf
        """When the archive was last found not to answer."""

    @property
    def left(self) -> Mapping[str, str]:
        """Objects that are not tried again, with the reasons of their last failures."""
        return {uid: each.reason for uid, each in self._delayed.items() if _is_left(each)}

    @property
    def due_in_s(self) -> float:
        """Seconds until one is to be tried again; infinite where none is."""
        return max(0.0, min((each.due for each in self._delayed.values()), default=math.inf) - monotonic())

    def is_due(self, uid: str) -> bool:
        """Whether an object may be tried now."""
        return uid not in self._delayed or self._delayed[uid].due <= monotonic()

    def took(self, uid: str) -> None:
        """Note that the archive has an object."""
        self.settled(uid)
        self._taken += 1
        self._in_a_row = 0

    def settled(self, uid: str) -> None:
        """Note that an object is not to be tried again, whatever became of it."""
        self._delayed.pop(uid, None)

    def gone(self, since: float) -> None:
        """Note that what was due at a time (`monotonic`) is not in the backlog any more: somebody else settled it."""
        self._delayed = {uid: each for uid, each in self._delayed.items() if each.due > since}

    def failed(self, uid: str, reason: str, answers: Callable[[], bool]) -> float:
        """Note that an object failed and may pass; for how many seconds nothing is to be tried.

        Parameters
        ----------
        answers : callable
            Whether the archive can be reached now: while it cannot, no failure is an object's own, and no time counts.
        """
        answering, now = answers(), monotonic()
        each = self._delayed.setdefault(uid, _Delayed(self._taken, now))
        each.reason = reason
        if not answering:
            self._away = now
        others_taken = self._taken > each.taken
        if answering and (others_taken or now - max(each.since, self._away) > TAKES_NOTHING_S):
            each.failures += 1
            each.due = math.inf if _is_left(each) else now + PAUSES_S[each.failures - 1]
            if others_taken:
                return SHORTEST_PAUSE_S
        self._in_a_row += 1
        return float(min(LONGEST_PAUSE_S, SHORTEST_PAUSE_S * 2 ** min(self._in_a_row - 1, 16)))


def _is_left(delayed: _Delayed) -> bool:
    return delayed.failures > len(PAUSES_S)
