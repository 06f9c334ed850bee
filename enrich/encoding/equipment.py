"""Producer: who made an object, in the words of DICOM; nothing in it changes from attempt to attempt."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

import highdicom as hd
from pydicom import Dataset
from pydicom.sr.coding import Code

from ... import __version__
from ...models.model import ModelCard
from ..features.feature_parameters import BIN_WIDTH, FeatureParameters, content_sha256
from ..identity import derived_uid, series_offset

MANUFACTURER = "Voxfleet"
LONG_STRING = 64
"""Longest LO (PS3.5 table 6.2-1), in characters."""
LONG_TEXT = 10240
"""Longest LT, in characters."""
ALGORITHM_FAMILIES: Mapping[str, Code] = {
    "AI": Code("123110", "DCM", "Artificial Intelligence"),
    "RULES": Code("123104", "DCM", "Morphological Operations"),
}
"""CID 7162. (123109 is Manual Processing; some published objects take it for Artificial Intelligence.)"""
PROCESSING_EQUIPMENT = Code("109102", "DCM", "Processing Equipment")


def ascii_text(words: str) -> str:
    """Our own words in ASCII, which reads the same under every Specific Character Set of a source."""
    return unicodedata.normalize("NFKD", words).encode("ascii", "ignore").decode().replace("\\", "/")


def ascii_line(words: str) -> str:
    """Our own words in ASCII, cut to an LO."""
    return ascii_text(words)[:LONG_STRING]


@dataclass(frozen=True, slots=True)
class MeasuringSoftware:
    """What computed the measurements, and with which settings (TID 4019)."""

    name: str
    version: str
    parameters: tuple[tuple[str, str], ...] = ()


MEASURING = MeasuringSoftware(
    name=f"{MANUFACTURER} radiomics",
    version=__version__,
    parameters=(
        ("definitions", "pyradiomics 3.1"),
        ("binWidth", str(BIN_WIDTH)),
        ("resampledPixelSpacing", "none"),
        ("geometryTolerance", "1e-3"),
        ("kurtosis", "excess (IBSI)"),
    ),
)
"""`enrich.radiomics`, with all that decides its values."""


def measuring_of(features: str) -> MeasuringSoftware:
    """What measures by a parameter file's content; `MEASURING` where that is empty."""
    if not features:
        return MEASURING
    pyradiomics = FeatureParameters(features).pyradiomics
    return MeasuringSoftware(
        name=f"{MANUFACTURER} radiomics with pyradiomics",
        version=f"{__version__} with pyradiomics {pyradiomics}",
        parameters=(
            ("kurtosis", "excess (IBSI)"),
            ("parameters_sha256", content_sha256(features)),
            ("parameters", features),
        ),
    )


@dataclass(frozen=True, slots=True)
class Producer:
    """All that is constant about who made a SEG and its SR.

    Attributes
    ----------
    key : str
        The workitem's key in hex; every UID derives from it.
    card : ModelCard
        Of the model that segmented.
    parameters : mapping of str to str
        Those the model ran with.
    measuring : MeasuringSoftware
        What made the measurements of the SR.
    """

    key: str
    card: ModelCard
    parameters: Mapping[str, str]
    measuring: MeasuringSoftware = MEASURING

    def uid(self, kind: str) -> str:
        """UID of one thing made by this producer."""
        return derived_uid(self.key, kind)

    @property
    def algorithm_name(self) -> str:
        """Segment Algorithm Name: ``{model} v{version}``."""
        return ascii_line(f"{self.card.name} v{self.card.version}")

    @property
    def series_offset(self) -> int:
        """Place of the SEG's Series Number among the source's ten thousand; the SR's is one more."""
        return series_offset(self.card.name)

    @property
    def serial_number(self) -> str:
        """Device Serial Number: a digest of model, version, weights and platform, 16 hex digits."""
        configuration = "\n".join((self.card.name, self.card.version, self.card.weights_sha256, __version__))
        return hashlib.sha256(configuration.encode()).hexdigest()[:16]

    @property
    def device_uid(self) -> str:
        """Device Observer UID: the same for all objects of one configuration."""
        return derived_uid(self.serial_number, "device")

    @property
    def software_versions(self) -> list[str]:
        """Software Versions: platform, then model."""
        return [f"{MANUFACTURER} {__version__}", ascii_line(f"{self.card.name} {self.card.version}")]

    def tracking_uid(self, number: int) -> str:
        """Tracking UID of a segment, in SEG and SR."""
        return self.uid(f"tracking.{number}")

    def add_equipment(self, dataset: Dataset) -> None:
        """General Equipment, Enhanced General Equipment and Contributing Equipment (PS3.3 C.7.5, C.12.1)."""
        dataset.Manufacturer = MANUFACTURER
        dataset.ManufacturerModelName = ascii_line(self.card.name)
        dataset.DeviceSerialNumber = self.serial_number
        dataset.SoftwareVersions = self.software_versions
        platform = Dataset()
        platform.PurposeOfReferenceCodeSequence = [code_item(PROCESSING_EQUIPMENT)]
        platform.Manufacturer = MANUFACTURER
        platform.ManufacturerModelName = ascii_line(self.card.name)
        platform.DeviceSerialNumber = self.serial_number
        platform.SoftwareVersions = self.software_versions
        platform.ContributionDescription = ascii_text(self.card.description)[:1024]
        # The libraries' versions change without a change of result, so they stand in the provenance file.
        library = Dataset()
        library.PurposeOfReferenceCodeSequence = [code_item(PROCESSING_EQUIPMENT)]
        library.Manufacturer = "pydicom and highdicom open source projects"
        library.ManufacturerModelName = "pydicom, highdicom"
        library.ContributionDescription = "Software libraries that encoded this object"
        dataset.ContributingEquipmentSequence = [platform, library]

    def algorithm_identification(self) -> hd.AlgorithmIdentificationSequence:
        """Segmentation Algorithm Identification Sequence (0062,0007) of every segment."""
        identification = hd.AlgorithmIdentificationSequence(
            name=ascii_line(self.card.name),
            family=ALGORITHM_FAMILIES[self.card.algorithm_family],
            version=ascii_line(self.card.version),
            source=MANUFACTURER,
            parameters=self._parameters(),
        )
        identification[0].AlgorithmParameters = identification[0].AlgorithmParameters[:LONG_TEXT]
        return identification

    def _parameters(self) -> dict[str, str]:
        """Parameters by name, without the two characters that separate them once encoded."""
        facts = {"weights_sha256": self.card.weights_sha256, "platform": f"{MANUFACTURER} {__version__}"}
        facts |= dict(sorted(self.parameters.items()))
        return {ascii_text(k): ascii_text(v).replace(",", ";").replace("=", ":") for k, v in facts.items()}


def code_item(code: Code) -> Dataset:
    """Item of a code sequence (PS3.3 section 8.8)."""
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme_designator
    if code.scheme_version:
        item.CodingSchemeVersion = code.scheme_version
    item.CodeMeaning = ascii_line(code.meaning)
    return item


def code_of(item: Dataset) -> Code:
    """Code that an item of a code sequence holds."""
    return Code(str(item.CodeValue), str(item.CodingSchemeDesignator), str(item.CodeMeaning))
