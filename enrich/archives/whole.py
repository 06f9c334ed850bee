"""A series comes whole or not at all: where a retrieval fails, no file of it is left."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TypeVar

from ..series import Series
from .archive import SeriesEntry

_Kind = TypeVar("_Kind")
Retrieve = Callable[[_Kind, SeriesEntry, Path], Series]


def whole_or_nothing(retrieve: Retrieve[_Kind]) -> Retrieve[_Kind]:
    """A `retrieve` that, where it raises, removes from its folder what was not there before."""

    @wraps(retrieve)
    def cleaning(archive: _Kind, entry: SeriesEntry, into: Path) -> Series:
        before = _files(into)
        try:
            return retrieve(archive, entry, into)
        except BaseException:
            for each in _files(into) - before:
                shutil.rmtree(each) if each.is_dir() else each.unlink(missing_ok=True)
            raise

    return cleaning


def _files(folder: Path) -> set[Path]:
    """What is in a folder; nothing where it is not there or may not be listed."""
    try:
        return set(folder.iterdir())
    except OSError:
        return set()
