"""Google access tokens by google-auth: application default credentials, or a service account's or workload's file."""

import json
import logging
import time
from collections.abc import Callable
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tokenferry.accounts._key_source import KeySettings, KeySource
from tokenferry.credentials import ApiKey
from tokenferry.oauth import TokenRequest, TokenResponse
from tokenferry.refresh import send
from tokenferry.secret import Secret
from tokenferry.stores import GOOGLE

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

_DEFAULT: Final = "default"
_SCOPES: Final = ("https://www.googleapis.com/auth/cloud-platform",)
_TIMEOUT: Final = 30.0
_MARGIN: Final = 300.0
"""Seconds before a token's end at which it is fetched again, since a model's answer takes minutes."""
_LIFETIME: Final = 3600.0
_SHOWN: Final = 200
_LOG_IN: Final = "log in with: gcloud auth application-default login, or name a file in google_credentials"


class GoogleKeySettings(KeySettings, frozen=True):
    """The account, and the Google credentials that fetch its token: `default`, or a file's path."""

    credentials: str

    def source(self, now: Callable[[], float]) -> KeySource:
        return GoogleKey(self, now)


class GoogleKey(KeySource):
    """Fetches an account's token with google-auth, and caches it until shortly before its end."""

    store = GOOGLE

    def __init__(self, settings: GoogleKeySettings, now: Callable[[], float] = time.time) -> None:
        super().__init__(settings, now)
        self._file = None if settings.credentials == _DEFAULT else Path(settings.credentials).expanduser()

    @property
    def subject(self) -> str:
        where = "application default credentials" if self._file is None else f"credentials in {self._file}"
        return f"account {self.account.name!r}: Google's {where}"

    def fetch(self) -> ApiKey:
        try:
            from google.auth import exceptions  # noqa: PLC0415  # an extra, which few need
        except ImportError:
            missing = "need google-auth, which is not installed; install it with: pip install 'tokenferry[vertex]'"
            raise self.failed(missing) from None
        logging.getLogger("google.auth").setLevel(logging.ERROR)  # the sentences below say what it warns of
        try:
            credentials = self._load()
            credentials.refresh(_transport())
            token = Secret(credentials.token)
        except exceptions.TransportError as fault:
            raise self.failed(f"gave no token: {_words(fault)}; try again later") from None
        except exceptions.RefreshError as fault:
            raise self.failed(f"were refused: {_words(fault)}; {self._cure}") from None
        except OSError as fault:
            raise self.failed(f"can't be read: {fault.strerror}; {self._cure}") from None
        except (exceptions.GoogleAuthError, ValueError, TypeError, KeyError):
            what = "were not found" if self._file is None else "can't be used"
            raise self.failed(f"{what}; {self._cure}") from None
        return ApiKey(token, until=self._valid_until(credentials))

    @property
    def _cure(self) -> str:
        return _LOG_IN if self._file is None else "name another file in google_credentials"

    def _load(self) -> "Credentials":
        """Load the present credentials. Raises `OSError`, and google-auth's errors for other files."""
        if self._file is None:
            import google.auth  # noqa: PLC0415  # an extra

            found: Credentials = google.auth.default(scopes=_SCOPES, request=_transport())[0]
            return found
        info = json.loads(self._file.read_bytes())
        if info["type"] == "service_account":
            from google.oauth2 import service_account as kind  # noqa: PLC0415  # an extra

            return kind.Credentials.from_service_account_info(info, scopes=_SCOPES)
        if info["type"] == "authorized_user":
            from google.oauth2 import credentials  # noqa: PLC0415  # an extra

            return credentials.Credentials.from_authorized_user_info(info, scopes=_SCOPES)
        if info["type"] != "external_account":
            raise ValueError
        if "environment_id" in info.get("credential_source", {}):
            from google.auth import aws  # noqa: PLC0415  # an extra

            return aws.Credentials.from_info(info, scopes=_SCOPES)
        from google.auth import identity_pool  # noqa: PLC0415  # an extra

        return identity_pool.Credentials.from_info(info, scopes=_SCOPES)

    def _valid_until(self, credentials: "Credentials") -> float:
        now, expiry = self._now(), credentials.expiry
        left = _LIFETIME if expiry is None else expiry.replace(tzinfo=UTC).timestamp() - now
        return now + max(left - _MARGIN, left / 2)


class _Answer:
    """An HTTP answer in the shape that google-auth reads."""

    def __init__(self, answer: TokenResponse) -> None:
        self.status = answer.status
        self.headers = answer.headers
        self.data = answer.body


def _transport() -> Callable[..., _Answer]:
    """Return google-auth's transport: our sender to authorization servers, with its proxies and certificates."""
    from google.auth.exceptions import TransportError  # noqa: PLC0415  # an extra

    def transport(
        url: str, method: Any = "GET", body: Any = None, headers: Any = None, timeout: Any = None, **_: Any
    ) -> _Answer:
        content = body.encode() if isinstance(body, str) else body or b""
        request = TokenRequest(url, tuple((headers or {}).items()), content, method)
        outcome = send(request, min(float(timeout or _TIMEOUT), _TIMEOUT))
        if not isinstance(outcome, TokenResponse):
            raise TransportError(outcome.reason)
        return _Answer(outcome)

    return transport


def _words(fault: Exception) -> str:
    """Make the server's error fit for a message."""
    text = str(fault.args[0]) if fault.args else type(fault).__name__
    return "".join(one if one.isprintable() else " " for one in text)[:_SHOWN].rstrip(". ")
