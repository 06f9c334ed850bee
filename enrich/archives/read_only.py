"""What an archive says that nothing can be stored in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NoReturn

from pydicom import Dataset

from .archive import StoreRefused

_REASON = "this archive is only read"


class ReadOnlyArchive(StoreRefused):
    """Something was to be stored in an archive that is only read."""

    code = "READ_ONLY"
    next_step = "name another archive as target"


class ReadOnly(ABC):
    """The verbs of an archive that is only read, where something is to be stored."""

    @property
    @abstractmethod
    def uri(self) -> str:
        """Where it is, without secrets."""

    def store(self, dataset: Dataset) -> NoReturn:
        """Refuse.

        Raises
        ------
        ReadOnlyArchive
            Always.
        """
        raise ReadOnlyArchive(self.uri, str(dataset.get("SOPInstanceUID") or ""), _REASON)

    def probe(self) -> NoReturn:
        """Refuse: nothing can be stored here.

        Raises
        ------
        ReadOnlyArchive
            Always.
        """
        raise ReadOnlyArchive(self.uri, "", _REASON)
