"""What a supervised child is asked, and what it answers: light to import, for the parent's sake."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from ..enrich.archives.archive import StoredObject
from .consumption import Consumption
from .workitem import Failure, Workitem


@dataclass(frozen=True, slots=True)
class StageSettings:
    """Where and how the stages of one node work.

    Attributes
    ----------
    scratch : Path
        Local cache of the series in flight.
    results : Path
        Folder that gets pages, tables and provenance: in ``<SeriesInstanceUID>/<model>/``, or in
        ``<SeriesInstanceUID>/`` beside the SEG and SR where there is no target archive.
    node : str
        Name of this node in the ledger and in provenance.
    device : str
        ``cpu`` or ``cuda:N``, for the stage that segments.
    nifti : bool
        Whether label maps are written as NIfTI too.
    models : tuple of (str, str)
        Name, and what the catalogue knows the model by, where that is another: a folder on this machine.
    cores : int
        Processes that may compute features for one workitem; 0 for all cores.
    memory_bytes : int
        Of the host, that the models of the stage that segments may need together; 0 for one model at a time.
    """

    scratch: Path
    results: Path
    node: str
    device: str = "cpu"
    nifti: bool = False
    models: tuple[tuple[str, str], ...] = ()
    cores: int = 0
    memory_bytes: int = 0

    def reference_of(self, workitem: Workitem) -> str:
        """What the catalogue knows the workitem's model by."""
        return dict(self.models).get(workitem.model, workitem.model)

    def folder_of(self, workitem: Workitem) -> Path:
        """Local cache of one workitem: its segmentation."""
        return self.scratch / workitem.key[:32]

    def series_folder_of(self, workitem: Workitem) -> Path:
        """Local cache of a workitem's series as it was read, the same for all models of one source and repair."""
        identity = f"{workitem.source} {workitem.series_instance_uid} {workitem.repair}"
        return self.scratch / f"series-{hashlib.sha256(identity.encode()).hexdigest()[:32]}"

    def results_of(self, workitem: Workitem) -> Path:
        """Folder for what people read about one workitem."""
        folder = self.results / workitem.series_instance_uid
        return folder / file_name(workitem.model) if workitem.target else folder


def file_name(model: str) -> str:
    """A model's name as part of a file's name: ``nnunet:/a/b`` gives ``nnunet_a_b``."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", model)


@dataclass(frozen=True, slots=True)
class Delivery:
    """What the last lane gives: objects stored, read back and compared; what was mended or left out."""

    stored: tuple[StoredObject, ...]
    repairs: tuple[str, ...] = ()
    failed_features: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """One lane's stages for one workitem.

    Attributes
    ----------
    before : tuple of Consumption
        What earlier lanes of this attempt used; for the provenance of the result.
    """

    lane: str
    workitem: Workitem
    settings: StageSettings
    before: tuple[Consumption, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of it: the consumption of each stage, and a failure or a delivery or neither."""

    consumption: tuple[Consumption, ...]
    failure: Failure | None = None
    delivery: Delivery | None = None
