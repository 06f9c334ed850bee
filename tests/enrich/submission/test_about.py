"""What people tell about a submission: read, limits, and what is missing."""

from __future__ import annotations

import pytest
from voxfleet.enrich.submission.about import About, Author, BadAbout, Contact, Source, read_about
from voxfleet.enrich.submission.methods import doi_of

WHOLE = About(
    title="Lungs",
    nickname="NLST-lungs",
    abstract="Lungs.",
    licence="CC-BY-4.0",
    source=Source("nlst", "10.7937/TCIA.HMQ8-J677", "CC-BY-4.0"),
    authors=(Author("Ada", "Lovelace", email="ada@example.org"),),
    contacts=tuple(Contact(role, "Ada", "ada@example.org") for role in ("scientific", "technical", "legal")),
)


def test_nothing_told_is_all_missing():
    """Licence and DOI of the source are among what is listed."""
    assert not WHOLE.missing() + WHOLE.missing_for_tcia()
    listed = "\n".join(About().missing())
    assert "source.doi" in listed
    assert "source.licence" in listed


@pytest.mark.parametrize(
    ("part", "value"),
    [("nickname", "n" * 30), ("nickname", "a_b"), ("title", "t" * 111), ("abstract", "a" * 1001), ("contacts", ())],
)
def test_limits_of_tcia(part, value):
    """Nicknames under 30 characters of letters, digits, dashes; 110 for a title, 1,000 for an abstract; contacts."""
    from dataclasses import replace

    assert any(part in each for each in replace(WHOLE, **{part: value}).missing_for_tcia())


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("titel = 'x'", "titel"),
        ("title = 3", "title"),
        ("[source]\nDOI = 'x'", "source.DOI"),
        ("authors = 'Ada'", "authors"),
        ("[answers]\nfunding = 1", "answers"),
        ("title = ", "about.toml"),
    ],
)
def test_wrong_file_is_one_line(tmp_path, text, named):
    """A name that is not known, a wrong type, no TOML: told with the name."""
    path = tmp_path / "about.toml"
    path.write_text(text)
    with pytest.raises(BadAbout, match=named):
        read_about(path)


def test_doi_in_a_citation():
    """A citation's DOI without the full stop or the words behind it."""
    assert doi_of("IEEE Trans 2001;20:490. doi:10.1109/42.929615") == "10.1109/42.929615"
    assert doi_of("Radiology. doi:10.1148/radiol.2020201433 (aerated lung)") == "10.1148/radiol.2020201433"
    assert not doi_of("A book, 1999.")
