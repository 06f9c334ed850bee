"""Passwords that a keyring keeps, and credentials that cannot be used; for every kind of archive."""

from __future__ import annotations

from ... import Error


class BadCredentials(Error):
    """Credentials that are half given, or given twice; the message holds none of them."""

    code = "BAD_CREDENTIALS"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


def password_for(user: str, password: str, host: str, names: str) -> str:
    """The password of a user: as it was given, else as the keyring keeps it (``keyring set HOST USER``).

    Parameters
    ----------
    names : str
        Of the two variables, for people.

    Raises
    ------
    BadCredentials
        If only one of the two is there, or the keyring does not answer.
    """
    if user and not password:
        password = _kept(host, user)
    if bool(user) != bool(password):
        raise BadCredentials(
            f"{names} must be set together, or the password kept by: keyring set {host} {user or 'USER'}"
        )
    return password


def _kept(host: str, user: str) -> str:
    """Password in the user's keyring; empty where there is no keyring, or nothing in it."""
    # Most machines of a fleet have none, and the library is an extra.
    try:
        import keyring
        from keyring.errors import KeyringError, NoKeyringError
    except ModuleNotFoundError:
        return ""
    try:
        return keyring.get_password(host, user) or ""
    except NoKeyringError:
        return ""
    except KeyringError as exc:
        # Its own message may quote what it holds.
        raise BadCredentials(f"the keyring does not answer ({type(exc).__name__}); unlock it") from None
