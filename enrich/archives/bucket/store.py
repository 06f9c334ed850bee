"""A bucket of S3 or of Google Cloud Storage, opened with what the environment says.

Credentials and endpoints come from the environment and from the files that the vendors' own programs
write; never from a URI:

* S3: ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY`` and ``AWS_SESSION_TOKEN``; else the profile
  ``AWS_PROFILE`` (``default``) of ``AWS_SHARED_CREDENTIALS_FILE`` (``~/.aws/credentials``); else the web
  identity or container credentials of a pod; else the role of the machine. ``AWS_REGION``,
  ``AWS_ENDPOINT_URL_S3`` or ``AWS_ENDPOINT_URL`` name another service than Amazon's.
* Google: ``GOOGLE_APPLICATION_CREDENTIALS``, ``GOOGLE_SERVICE_ACCOUNT``, the login of ``gcloud``, or the
  account of the machine. ``STORAGE_EMULATOR_HOST`` names another service than Google's.

Where there are none, requests are not signed, as public buckets want it; ``AWS_SKIP_SIGNATURE=true``
and ``GOOGLE_SKIP_SIGNATURE=true`` force that.
"""

from __future__ import annotations

import configparser
import json
import os
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from obstore.exceptions import BaseError
from obstore.store import GCSStore, S3Store

from ..credentials import BadCredentials

MACHINE_ROLES: Final = {"s3": "169.254.169.254", "gs": "metadata.google.internal"}
"""Where a machine of Amazon or Google learns who it is."""
_MACHINE_S = 1.0
_AWS_REGION: Final = "us-east-1"
_POD_IDENTITY: Final = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
_GOOGLE_FILES: Final = ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_KEY")
_NO_ACCOUNT: Final = {"disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}
"""A service account for a service that asks for none; only so can obstore be told another address."""


@dataclass(frozen=True, slots=True)
class BucketPatience:
    """How long a bucket is waited for. Busy (429, 503), broken (5xx) and cut answers are asked for again."""

    connect_s: float = 10.0
    request_s: float = 300.0
    """One request with its whole body."""
    retries: int = 6
    retries_s: float = 180.0
    first_pause_s: float = 0.2


@dataclass(frozen=True, slots=True)
class BucketAddress:
    """Where objects are: scheme ``s3`` or ``gs``, bucket, and the prefix of all keys, without slashes at its ends."""

    scheme: str
    bucket: str
    prefix: str = ""
    endpoint: str = ""
    """Address of the service; empty where the environment or the vendor's own is meant."""
    anonymous: bool = False
    """Whether requests go unsigned whatever credentials there are."""

    @property
    def uri(self) -> str:
        """``s3://bucket/prefix``."""
        return f"{self.scheme}://{self.bucket}" + (f"/{self.prefix}" if self.prefix else "")

    @property
    def service(self) -> str:
        """Address of the service that stands for the address, empty for the vendor's own."""
        if self.endpoint:
            return self.endpoint
        if self.scheme == "gs":
            host = os.environ.get("STORAGE_EMULATOR_HOST", "")
            return host if not host or "://" in host else f"http://{host}"
        return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""


def open_store(address: BucketAddress, patience: BucketPatience) -> S3Store | GCSStore:
    """Client of the bucket; nothing is asked of it yet.

    Raises
    ------
    BadCredentials
        If credentials are half given, or their file cannot be read or holds none.
    """
    client: Any = {
        "allow_http": address.service.startswith("http://"),
        "connect_timeout": timedelta(seconds=patience.connect_s),
        "timeout": timedelta(seconds=patience.request_s),
    }
    retry: Any = {
        "max_retries": patience.retries,
        "retry_timeout": timedelta(seconds=patience.retries_s),
        "backoff": {
            "init_backoff": timedelta(seconds=patience.first_pause_s),
            "max_backoff": timedelta(seconds=15),
            "base": 2,
        },
    }
    try:
        if address.scheme == "gs":
            return GCSStore(address.bucket, config=_google(address), client_options=client, retry_config=retry)
        return S3Store(address.bucket, config=_amazon(address), client_options=client, retry_config=retry)
    except BaseError:
        # Its own message may quote what it could not read, which may be a key.
        names = "GOOGLE_*" if address.scheme == "gs" else "AWS_*"
        raise BadCredentials(f"{address.uri}: what {names} in the environment names cannot be used") from None


def _google(address: BucketAddress) -> Any:
    if address.service:
        return {"service_account_key": json.dumps({**_NO_ACCOUNT, "gcs_base_url": address.service.rstrip("/")})}
    return {"skip_signature": address.anonymous or _google_anonymous()}


def _google_anonymous() -> bool:
    if _is_set("GOOGLE_SKIP_SIGNATURE"):
        return True
    login = Path.home() / ".config" / "gcloud" / "application_default_credentials.json"
    return not (any(map(os.environ.get, _GOOGLE_FILES)) or login.is_file() or _has_role("gs"))


def _amazon(address: BucketAddress) -> Any:
    keys = AwsKeys() if address.anonymous or _is_set("AWS_SKIP_SIGNATURE") else aws_keys()
    config: dict[str, Any] = {
        "region": os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or keys.region or _AWS_REGION,
        "checksum_algorithm": "sha256",
        "copy_if_not_exists": "multipart",
    }
    if address.service:
        config |= {"endpoint": address.service, "aws_endpoint_url_s3": address.service}
    if keys.key_id:
        config |= {"access_key_id": keys.key_id, "secret_access_key": keys.secret, "session_token": keys.token}
    config["skip_signature"] = not keys.key_id and not keys.of_the_place
    return {name: value for name, value in config.items() if value != ""}


@dataclass(frozen=True, slots=True)
class AwsKeys:
    """Who we are to S3: keys, or what the pod or machine says, or nobody."""

    key_id: str = ""
    secret: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    region: str = ""
    of_the_place: bool = False
    """Whether the pod or the machine has credentials of its own."""


def aws_keys() -> AwsKeys:
    """Keys of the environment, else of the profile, else of the pod or machine.

    Raises
    ------
    BadCredentials
        If half of a pair is given, or the profile that is asked for has none.
    """
    key_id, secret = os.environ.get("AWS_ACCESS_KEY_ID", ""), os.environ.get("AWS_SECRET_ACCESS_KEY", "")
    if bool(key_id) != bool(secret):
        raise BadCredentials("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY must be set together")
    if key_id:
        return AwsKeys(key_id, secret, os.environ.get("AWS_SESSION_TOKEN", ""))
    profile = os.environ.get("AWS_PROFILE", "")
    found = _profile(profile or "default")
    if found.key_id:
        return found
    if profile:
        raise BadCredentials(
            f"profile {profile} holds no access key; "
            f"run: eval $(aws configure export-credentials --profile {profile} --format env)"
        )
    placed = any(map(os.environ.get, _POD_IDENTITY)) or (not _is_set("AWS_EC2_METADATA_DISABLED") and _has_role("s3"))
    return AwsKeys(region=found.region, of_the_place=placed)


def _profile(name: str) -> AwsKeys:
    """A profile of the files that ``aws configure`` writes; empty where they hold none."""
    credentials = _read_profile("AWS_SHARED_CREDENTIALS_FILE", "credentials", name)
    config = _read_profile("AWS_CONFIG_FILE", "config", name if name == "default" else f"profile {name}")
    told = {**config, **credentials}
    key_id, secret = told.get("aws_access_key_id", ""), told.get("aws_secret_access_key", "")
    if bool(key_id) != bool(secret):
        raise BadCredentials(f"profile {name} holds half of a pair of keys")
    return AwsKeys(key_id, secret, told.get("aws_session_token", ""), told.get("region", ""))


def _read_profile(variable: str, file: str, section: str) -> dict[str, str]:
    path = Path(os.environ.get(variable) or Path.home() / ".aws" / file).expanduser()
    parser = configparser.RawConfigParser()
    try:
        parser.read(path, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError, OSError) as exc:
        # Its own message would quote the line, which may be a key.
        raise BadCredentials(f"{path} cannot be read as profiles of AWS ({type(exc).__name__})") from None
    return dict(parser[section]) if parser.has_section(section) else {}


def _has_role(scheme: str) -> bool:
    """Whether this machine's cloud tells it who it is."""
    with suppress(OSError):
        socket.create_connection((MACHINE_ROLES[scheme], 80), _MACHINE_S).close()
        return True
    return False


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "").lower() in ("1", "true", "yes")
