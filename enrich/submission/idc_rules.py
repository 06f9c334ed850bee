"""Whether the Imaging Data Commons' tables would hold our reports: its ETL's rules as SQL over our objects.

IDC's `measurement_groups` joins what a group must hold by inner joins, so that one missing item takes
the group out without a word (etl_flow, `derived_data_views/sql`). The same joins stand here over a
table of content items; what was encoded, but does not come out of them, is told with the rule it breaks.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, cast

import duckdb
import pyarrow as pa
import pydicom
from pydicom import Dataset

BATCH = 100
"""Files whose content items are in memory at a time."""

Row = dict[str, Any]

_TEXT = pa.string()

INSTANCES = pa.schema(
    dict.fromkeys(("sop_instance_uid", "sop_class_uid", "template", "mapping_resource"), _TEXT)
)  # fmt: skip
"""One row an object; `template` and `mapping_resource` of the first content template."""

CONTENT = pa.schema(
    {
        **dict.fromkeys(("sop_instance_uid", "item", "parent"), _TEXT),
        **dict.fromkeys(("position", "depth"), pa.int64()),
        **dict.fromkeys(("value_type", "concept", "scheme", "meaning", "value"), _TEXT),
        **dict.fromkeys(("code", "code_scheme", "referenced_class", "referenced_instance", "unit"), _TEXT),
        "referenced_segment": pa.int64(),
    }
)
"""One row a content item of a report: `item` is its path (``2.1.7``), `depth` 1 for the children of the root,
`position` from 1 among its parent's children, `value` a text, UID or number as it is written."""

_ITEMS = """
CREATE VIEW report AS SELECT sop_instance_uid FROM instance
WHERE sop_class_uid IN ('1.2.840.10008.5.1.4.1.1.88.11', '1.2.840.10008.5.1.4.1.1.88.22',
    '1.2.840.10008.5.1.4.1.1.88.33', '1.2.840.10008.5.1.4.1.1.88.34', '1.2.840.10008.5.1.4.1.1.88.35')
  AND template = '1500' AND mapping_resource = 'DCMR';
CREATE VIEW encoded_group AS SELECT * FROM content
WHERE value_type = 'CONTAINER' AND concept = '125007' AND scheme = 'DCM';
CREATE VIEW idc_group AS SELECT content.* FROM content JOIN report USING (sop_instance_uid)
WHERE depth = 2 AND value_type = 'CONTAINER' AND meaning = 'Measurement Group';
CREATE VIEW tracking_id AS SELECT * FROM content
WHERE value_type = 'TEXT' AND concept = '112039' AND scheme = 'DCM';
CREATE VIEW tracking_uid AS SELECT * FROM content
WHERE value_type = 'UIDREF' AND concept = '112040' AND scheme = 'DCM';
CREATE VIEW finding AS SELECT * FROM content
WHERE value_type = 'CODE' AND concept = '121071' AND scheme = 'DCM';
CREATE VIEW finding_site AS SELECT * FROM content
WHERE value_type = 'CODE' AND (concept, scheme) IN (('363698007', 'SCT'), ('G-C0E3', 'SRT'));
CREATE VIEW source_series AS SELECT * FROM content
WHERE value_type = 'UIDREF' AND concept = '121232' AND scheme = 'DCM';
CREATE VIEW segment AS SELECT content.* FROM content
JOIN instance ON instance.sop_instance_uid = referenced_instance
  AND instance.sop_class_uid = '1.2.840.10008.5.1.4.1.1.66.4'
WHERE value_type = 'IMAGE' AND referenced_class = '1.2.840.10008.5.1.4.1.1.66.4' AND referenced_segment IS NOT NULL;
"""

_TABLES = """
CREATE VIEW measurement_groups AS
SELECT g.sop_instance_uid, g.item, tracking_id.value AS tracking_identifier,
       tracking_uid.value AS tracking_unique_identifier, finding.code AS finding, finding_site.code AS finding_site,
       source_series.value AS source_series, segment.referenced_instance AS segmentation,
       segment.referenced_segment AS segment_number
FROM idc_group AS g
JOIN tracking_id ON tracking_id.sop_instance_uid = g.sop_instance_uid AND tracking_id.parent = g.item
JOIN tracking_uid ON tracking_uid.sop_instance_uid = g.sop_instance_uid AND tracking_uid.parent = g.item
JOIN finding ON finding.sop_instance_uid = g.sop_instance_uid AND finding.parent = g.item
JOIN finding_site ON finding_site.sop_instance_uid = g.sop_instance_uid AND finding_site.parent = g.item
JOIN source_series ON source_series.sop_instance_uid = g.sop_instance_uid AND source_series.parent = g.item
JOIN segment ON segment.sop_instance_uid = g.sop_instance_uid AND segment.parent = g.item;
CREATE VIEW quantitative_measurements AS
SELECT n.sop_instance_uid, n.item, n.concept, n.scheme, m.code AS derivation,
       TRY_CAST(n.value AS DECIMAL(38, 9)) AS value, n.unit, g.item AS measurement_group, g.segment_number,
       g.finding, g.finding_site
FROM content AS n
JOIN measurement_groups AS g ON g.sop_instance_uid = n.sop_instance_uid AND g.item = n.parent
LEFT JOIN content AS m ON m.sop_instance_uid = n.sop_instance_uid AND m.parent = n.item AND m.position = 1
     AND m.concept = '121401' AND m.scheme = 'DCM'
WHERE n.value_type = 'NUM' AND TRY_CAST(n.value AS DECIMAL(38, 9)) IS NOT NULL;
"""

_OF_GROUP = "SELECT 1 FROM {view} AS v WHERE v.sop_instance_uid = e.sop_instance_uid AND v.{column} = e.item"

_RULES = (
    ("idc_group", "item", "is no 'Measurement Group' below a TID 1500 report of a class that IDC reads"),
    ("tracking_id", "parent", "has no Tracking Identifier (112039, DCM) as TEXT"),
    ("tracking_uid", "parent", "has no Tracking Unique Identifier (112040, DCM) as UIDREF"),
    ("finding", "parent", "has no Finding (121071, DCM) as CODE"),
    ("finding_site", "parent", "has no Finding Site (363698007, SCT) as CODE"),
    ("source_series", "parent", "has no Source series for segmentation (121232, DCM) as UIDREF"),
    ("segment", "parent", "refers to no segment of a SEG of the class 66.4 that is submitted with it"),
)
"""View, its column that holds the group's path, and what a group breaks that has no row there."""

_BROKEN_MEASUREMENTS = """
SELECT n.sop_instance_uid, n.item, 'is no number that casts to NUMERIC' FROM content AS n
WHERE n.value_type = 'NUM' AND TRY_CAST(n.value AS DECIMAL(38, 9)) IS NULL
UNION ALL
SELECT m.sop_instance_uid, m.parent, 'has its Derivation (121401, DCM) not as first child' FROM content AS m
WHERE m.concept = '121401' AND m.scheme = 'DCM' AND m.position <> 1
UNION ALL
SELECT s.sop_instance_uid, s.parent, 'has its Laterality (272741003, SCT) not as first child' FROM content AS s
WHERE s.concept = '272741003' AND s.scheme = 'SCT' AND s.position <> 1
ORDER BY ALL
"""


@dataclass(frozen=True, slots=True)
class Broken:
    """A content item that the tables would not hold, or not whole: where it is, and the rule."""

    sop_instance_uid: str
    item: str
    rule: str


@dataclass(frozen=True, slots=True)
class IdcCheck:
    """What was encoded, and what of it IDC's tables would hold."""

    reports: int
    groups: int
    groups_listed: int
    measurements: int
    measurements_listed: int
    broken: tuple[Broken, ...]

    @property
    def sound(self) -> bool:
        """Whether every group and every measurement would be listed, and whole."""
        return not self.broken and (self.groups, self.measurements) == (self.groups_listed, self.measurements_listed)


def check_for_idc(paths: Iterable[Path]) -> IdcCheck:
    """Replay IDC's rules over DICOM files: SR with the SEG that they refer to.

    Raises
    ------
    OSError
        If a file cannot be read.
    InvalidDicomError
        If one is no DICOM file.
    """
    with tempfile.TemporaryDirectory() as folder, duckdb.connect(str(Path(folder) / "rules.duckdb")) as database:
        load(database, paths)
        return IdcCheck(
            reports=_count(database, "SELECT count(DISTINCT sop_instance_uid) FROM content"),
            groups=_count(database, "SELECT count(*) FROM encoded_group"),
            groups_listed=_count(database, "SELECT count(DISTINCT (sop_instance_uid, item)) FROM measurement_groups"),
            measurements=_count(database, "SELECT count(*) FROM content WHERE value_type = 'NUM'"),
            measurements_listed=_count(
                database, "SELECT count(DISTINCT (sop_instance_uid, item)) FROM quantitative_measurements"
            ),
            broken=tuple(_broken(database)),
        )


def load(database: duckdb.DuckDBPyConnection, paths: Iterable[Path]) -> None:
    """Make the tables `instance` and `content` from files, and IDC's `measurement_groups` and the like as views."""
    _insert(database, "CREATE TABLE instance AS SELECT * FROM given", INSTANCES, [])
    _insert(database, "CREATE TABLE content AS SELECT * FROM given", CONTENT, [])
    for batch in _batches(paths):
        instances: list[Row] = []
        content: list[Row] = []
        for path in batch:
            dataset = pydicom.dcmread(path, stop_before_pixels=True)
            instances.append(_instance(dataset))
            content.extend(_content(dataset, str(dataset.SOPInstanceUID), "", 1))
        _insert(database, "INSERT INTO instance SELECT * FROM given", INSTANCES, instances)
        _insert(database, "INSERT INTO content SELECT * FROM given", CONTENT, content)
    database.execute(_ITEMS + _TABLES)


def _insert(database: duckdb.DuckDBPyConnection, statement: str, schema: pa.Schema, rows: list[Row]) -> None:
    """Run a statement over rows that it knows as the table `given`."""
    database.register("given", pa.Table.from_pylist(rows, schema=schema))
    database.execute(statement)
    database.unregister("given")


def _batches(paths: Iterable[Path]) -> Iterator[list[Path]]:
    rest = iter(paths)
    while batch := list(islice(rest, BATCH)):
        yield batch


def _broken(database: duckdb.DuckDBPyConnection) -> Iterator[Broken]:
    for view, column, rule in _RULES:
        absent = _OF_GROUP.format(view=view, column=column)
        query = f"SELECT sop_instance_uid, item FROM encoded_group AS e WHERE NOT EXISTS ({absent}) ORDER BY ALL"  # noqa: S608
        yield from (Broken(uid, item, rule) for uid, item in database.execute(query).fetchall())
    yield from (Broken(*row) for row in database.execute(_BROKEN_MEASUREMENTS).fetchall())


def _count(database: duckdb.DuckDBPyConnection, query: str) -> int:
    return int(database.execute(query).fetchall()[0][0])


def _instance(dataset: Dataset) -> Row:
    templates = dataset.get("ContentTemplateSequence") or [Dataset()]
    return {
        "sop_instance_uid": str(dataset.SOPInstanceUID),
        "sop_class_uid": str(dataset.SOPClassUID),
        "template": str(templates[0].get("TemplateIdentifier", "")),
        "mapping_resource": str(templates[0].get("MappingResource", "")),
    }


def _content(parent: Dataset, sop_instance_uid: str, path: str, depth: int) -> Iterator[Row]:
    """Rows of all items below one, depth first."""
    for position, item in enumerate(parent.get("ContentSequence") or (), start=1):
        name = f"{path}.{position}".lstrip(".")
        where = {"sop_instance_uid": sop_instance_uid, "item": name, "parent": path}
        yield {**where, "position": position, "depth": depth, **_values(item)}
        yield from _content(item, sop_instance_uid, name, depth + 1)


def _values(item: Dataset) -> Row:
    concept, code = _first(item, "ConceptNameCodeSequence"), _first(item, "ConceptCodeSequence")
    reference, measured = _first(item, "ReferencedSOPSequence"), _first(item, "MeasuredValueSequence")
    segment = reference.get("ReferencedSegmentNumber")
    value = item.get("TextValue") or item.get("UID") or measured.get("NumericValue")
    return {
        "value_type": str(item.get("ValueType", "")),
        "concept": str(concept.get("CodeValue", "")),
        "scheme": str(concept.get("CodingSchemeDesignator", "")),
        "meaning": str(concept.get("CodeMeaning", "")),
        "value": None if value is None else str(value),
        "code": code.get("CodeValue"),
        "code_scheme": code.get("CodingSchemeDesignator"),
        "referenced_class": reference.get("ReferencedSOPClassUID"),
        "referenced_instance": reference.get("ReferencedSOPInstanceUID"),
        "unit": _first(measured, "MeasurementUnitsCodeSequence").get("CodeValue"),
        "referenced_segment": None if segment is None else int(segment),
    }


def _first(item: Dataset, keyword: str) -> Dataset:
    """First item of a sequence; an empty data set where there is none."""
    items = item.get(keyword)
    return cast(Dataset, items[0]) if items else Dataset()
