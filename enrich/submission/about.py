"""What only people know of a submission: title, authors, licence, DOI of the source; from a TOML file."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from ... import Error

NICKNAME = re.compile(r"[A-Za-z0-9-]{1,29}")
"""TCIA's short title: fewer than 30 letters, digits and dashes."""
ABSTRACT_CHARACTERS = 1000
"""Most that TCIA's proposal takes."""
TITLE_CHARACTERS = 110
"""Most that CICADAS recommends."""
CONTACTS = ("scientific", "technical", "legal")
"""Roles of the three people that TCIA's proposal names; the legal signatory is not the investigator."""

_T = TypeVar("_T")


class BadAbout(Error):
    """The file about a submission cannot be used."""

    code = "BAD_ABOUT"

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(file, reason)

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.args[1]}; SUBMISSION.md shows a whole file"


@dataclass(frozen=True, slots=True)
class Source:
    """The collection that was analysed: its name where it was published, its DOI and its licence (SPDX)."""

    collection: str = ""
    doi: str = ""
    licence: str = ""


@dataclass(frozen=True, slots=True)
class Author:
    """One author of the results; the ORCID as ``0000-0000-0000-0000``."""

    first_name: str = ""
    last_name: str = ""
    orcid: str = ""
    organization: str = ""
    email: str = ""


@dataclass(frozen=True, slots=True)
class Contact:
    """Whom an archive asks; `role` is one of `CONTACTS`."""

    role: str = ""
    name: str = ""
    email: str = ""


@dataclass(frozen=True, slots=True)
class About:
    """What is told about a submission; empty where nobody said it yet.

    Attributes
    ----------
    doi : str
        Of the results themselves, once they have one.
    licence : str
        SPDX identifier, e.g. ``CC-BY-4.0``.
    answers : mapping of str to str
        Other answers for TCIA's proposal, by the names of `tcia.QUESTIONS`.
    """

    title: str = ""
    nickname: str = ""
    abstract: str = ""
    licence: str = ""
    doi: str = ""
    url: str = ""
    source: Source = Source()
    authors: tuple[Author, ...] = ()
    contacts: tuple[Contact, ...] = ()
    answers: Mapping[str, str] = field(default_factory=dict)

    @property
    def citation(self) -> str:
        """Authors, title and DOI in a line; empty without a title."""
        names = ", ".join(f"{each.last_name} {each.first_name[:1]}".strip() for each in self.authors)
        parts = (names, self.title, f"doi:{self.doi}" if self.doi else "")
        return ". ".join(part for part in parts if part) if self.title else ""

    def missing(self) -> tuple[str, ...]:
        """What every archive asks for and is not there, in words, licence and DOI of the source among it."""
        wanted = {
            "title": self.title,
            "abstract": self.abstract,
            "licence of the results": self.licence,
            "[[authors]]": self.authors,
            "source.collection: the collection that was analysed": self.source.collection,
            "source.doi: DOI of the collection that was analysed": self.source.doi,
            "source.licence: licence of the collection that was analysed": self.source.licence,
        }
        return tuple(name for name, value in wanted.items() if not value)

    def missing_for_tcia(self) -> tuple[str, ...]:
        """What TCIA's proposal asks for beyond that, or limits."""
        faults = []
        if not NICKNAME.fullmatch(self.nickname):
            faults.append("nickname: fewer than 30 letters, digits and dashes")
        if len(self.title) > TITLE_CHARACTERS:
            faults.append(f"title: {len(self.title)} characters, TCIA recommends {TITLE_CHARACTERS} at most")
        if len(self.abstract) > ABSTRACT_CHARACTERS:
            faults.append(f"abstract: {len(self.abstract)} characters, TCIA takes {ABSTRACT_CHARACTERS} at most")
        there = {each.role for each in self.contacts if each.name and each.email}
        faults += [f"[[contacts]] with role {role!r}, name and email" for role in CONTACTS if role not in there]
        faults += [f"email of author {each.last_name}" for each in self.authors if not each.email]
        return tuple(faults)


def read_about(path: Path) -> About:
    """What a TOML file tells about a submission.

    Raises
    ------
    BadAbout
        If the file cannot be read, is no TOML, or has a name that is not known here.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise BadAbout(str(path), str(exc)) from exc
    source = _record(Source, content.pop("source", {}), path, "source.")
    authors = tuple(_record(Author, each, path, "authors.") for each in _list(content.pop("authors", []), path))
    contacts = tuple(_record(Contact, each, path, "contacts.") for each in _list(content.pop("contacts", []), path))
    answers = content.pop("answers", {})
    if not isinstance(answers, dict) or not all(isinstance(each, str) for each in answers.values()):
        raise BadAbout(str(path), "[answers] holds text only")
    told = _record(About, content, path, "")
    return replace(told, source=source, authors=authors, contacts=contacts, answers=answers)


def _list(value: Any, path: Path) -> list[Any]:
    if not isinstance(value, list):
        raise BadAbout(str(path), "authors and contacts are written [[authors]] and [[contacts]]")
    return value


def _record(kind: type[_T], content: Any, path: Path, where: str) -> _T:
    if not isinstance(content, dict):
        raise BadAbout(str(path), f"{where.rstrip('.')} is a table")
    known = {each.name for each in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(content) - known):
        raise BadAbout(str(path), f"nothing is called {where}{unknown[0]}; there are {', '.join(sorted(known))}")
    if wrong := sorted(name for name, value in content.items() if not isinstance(value, str)):
        raise BadAbout(str(path), f"{where}{wrong[0]} is text in quotes")
    return kind(**content)
