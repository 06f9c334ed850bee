"""Tokens that we fetch ourselves: kept, fetched in time, and once more when refused."""

from __future__ import annotations

import pytest
import requests
from voxfleet.enrich.archives.tokens import Token, TokenAuth, TokenRefused


class Giver:
    """Gives token 1, 2, 3 ..., each for `life_s` of a clock that the test sets."""

    def __init__(self, life_s: float) -> None:
        self.life_s, self.given, self.now = life_s, 0, 0.0

    def fetch(self) -> Token:
        """The next token."""
        self.given += 1
        return Token(str(self.given), self.life_s)

    def auth(self) -> TokenAuth:
        """Credentials that go by the test's clock."""
        return TokenAuth(self.fetch, lambda: self.now)


def _asked(auth: TokenAuth) -> str:
    request = auth(requests.Request("GET", "http://127.0.0.1").prepare())
    return request.headers["Authorization"]


@pytest.mark.parametrize(
    ("life_s", "times"),
    [
        (3600.0, [(0.0, "1"), (3539.0, "1"), (3540.0, "2"), (3600.0, "2")]),  # 60 s before its end
        (10.0, [(0.0, "1"), (7.9, "1"), (8.0, "2"), (15.9, "2"), (16.0, "3")]),  # a fifth of 10 s before its end
        (0.0, [(0.0, "1"), (0.0, "2")]),  # never to be used twice
    ],
)
def test_a_token_is_kept_and_replaced_before_it_expires(life_s: float, times: list[tuple[float, str]]) -> None:
    """One token serves all requests until a minute, or a fifth of its life, before it expires."""
    giver = Giver(life_s)
    auth = giver.auth()
    seen = []
    for giver.now, _ in times:
        seen.append((giver.now, _asked(auth).removeprefix("Bearer ")))
    assert seen == times


def test_a_failure_is_not_kept() -> None:
    """Where no token was to be had, the next request asks again."""
    answers = [TokenRefused("no"), Token("yes", 60.0)]

    def fetch() -> Token:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    auth = TokenAuth(fetch)
    with pytest.raises(TokenRefused):
        _asked(auth)
    assert _asked(auth) == "Bearer yes"


@pytest.mark.parametrize("fields", [{}, {"Authorization": "Basic dXNlcjpzM2NyZXQ="}])
def test_a_host_that_got_no_token_gets_none(fields: dict[str, str]) -> None:
    """Where a redirect led to another host, `requests` took our token away or put that host's own login there."""
    giver = Giver(3600.0)
    response = requests.Response()
    response.status_code = 401
    response.request = requests.Request("GET", "http://127.0.0.2", headers=fields).prepare()
    assert giver.auth()._answered(response) is response
    assert giver.given == 0


def test_nothing_shows_a_token() -> None:
    """Neither the token's nor the credentials' repr tells the token."""
    auth = TokenAuth(lambda: Token("s3cret", 60.0))
    _asked(auth)
    assert "s3cret" not in repr(auth) + repr(Token("s3cret", 60.0))
