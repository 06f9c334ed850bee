"""Who gives us tokens for a DICOMweb archive: an OpenID Connect provider (dcm4chee's Keycloak), or Google."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import requests

from ..address import MissingExtra
from ..credentials import BadCredentials
from ..http_answers import may_pass, status_of, told
from ..http_session import Patience, open_session
from ..tokens import Token, TokenRefused, TokenUnanswered

GOOGLE_SCOPE: Final = "https://www.googleapis.com/auth/cloud-healthcare"
USUAL_LIFE_S: Final = 60.0
"""Taken for the life of a token where its giver does not say (RFC 6749 5.1)."""
_SHOWN = 200
"""Characters of a library's message that are shown."""


@dataclass(frozen=True, slots=True)
class Client:
    """A program that is known to an OpenID Connect provider (RFC 6749 4.4)."""

    token_url: str
    client_id: str
    secret: str = field(repr=False)
    scope: str = ""


def client_tokens(client: Client, patience: Patience) -> Callable[[], Token]:
    """How to get tokens for a client by its credentials (RFC 6749 4.4), the secret sent by HTTP Basic (2.3.1).

    Raises
    ------
    MissingExtra
        If oauthlib is not installed.
    """
    try:
        from oauthlib.oauth2 import BackendApplicationClient, OAuth2Error
    except ModuleNotFoundError as exc:
        raise MissingExtra("dicomweb", "tokens") from exc
    whose = f"client {client.client_id} at {client.token_url}"

    def fetch() -> Token:
        # It does not learn the scope: providers give more than was asked for, which it would raise on.
        protocol = BackendApplicationClient(client.client_id)
        form = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        timeout = (patience.connect_s, patience.read_s)
        try:
            with open_session(patience, requests.auth.HTTPBasicAuth(client.client_id, client.secret)) as session:
                body = protocol.prepare_request_body(scope=client.scope or None)
                response = session.post(client.token_url, data=body, headers=form, timeout=timeout)
                if may_pass(response.status_code, ValueError()):
                    response.raise_for_status()
            told_token = protocol.parse_request_body_response(response.text)
        except requests.RequestException as exc:
            kind = TokenUnanswered if may_pass(status_of(exc), exc) else TokenRefused
            raise kind(f"no token for {whose}: {told(exc, patience)}") from None
        except OAuth2Error as exc:
            # Its description is the provider's and could quote what we sent.
            raise TokenRefused(f"no token for {whose}: {exc.error}") from None
        except ValueError:
            raise TokenRefused(f"no token for {whose}: the answer is no token (RFC 6749 5.1)") from None
        return Token(str(told_token["access_token"]), float(told_token.get("expires_in") or USUAL_LIFE_S))

    return fetch


def google_tokens(patience: Patience) -> Callable[[], Token]:
    """How to get tokens from Google by Application Default Credentials.

    These are, in this order: the file that ``GOOGLE_APPLICATION_CREDENTIALS`` names (a service account, a
    workload identity), the login of ``gcloud``, the account of the machine.

    Raises
    ------
    MissingExtra
        If google-auth is not installed.
    BadCredentials
        If there are no such credentials.
    """
    try:
        import google.auth
        from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, TransportError
        from google.auth.transport.requests import Request
    except ModuleNotFoundError as exc:
        raise MissingExtra("dicomweb", "tokens") from exc
    try:
        credentials, _ = google.auth.default(scopes=[GOOGLE_SCOPE])
    except DefaultCredentialsError as exc:
        advice = "set GOOGLE_APPLICATION_CREDENTIALS, or run: gcloud auth application-default login"
        raise BadCredentials(f"Google's credentials are not there or cannot be used; {advice}") from exc

    def fetch() -> Token:
        try:
            with open_session(patience) as session:
                credentials.refresh(Request(session=session))
        except TransportError:
            raise TokenUnanswered("no token from Google: no answer") from None
        except GoogleAuthError as exc:
            reason = f"no token from Google: {str(exc.args[0])[:_SHOWN] if exc.args else type(exc).__name__}"
            raise (TokenUnanswered if exc.retryable else TokenRefused)(reason) from None
        expiry = credentials.expiry or datetime.now()
        life_s = (expiry.replace(tzinfo=UTC) - datetime.now(UTC)).total_seconds()
        return Token(str(credentials.token), life_s)

    return fetch
