"""The maximum age of credentials, and the end of those that are not renewed. No I/O."""

import time
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from tokenferry.config_key import format_duration, parse_duration
from tokenferry.credentials import OAuthToken, SetupToken
from tokenferry.errors import NeedsLogin, UsageError
from tokenferry.settings import BackgroundRefreshSettings
from tokenferry.stores import Document

Cause: TypeAlias = Literal["max-age", "setup-token", "refresh-token"]
Stage: TypeAlias = Literal["fine", "soon", "over"]

DAY: Final = 86_400
YEAR: Final = 365 * DAY
_SETUP_TOKEN_NOTICE: Final = 30 * DAY
_REFRESH_TOKEN_NOTICE: Final = 5 * DAY
_LONGEST_NOTICE: Final = 14 * DAY
_SHARE: Final = 0.1
_USUAL_LIFE: Final = 28_800
_REFRESH_LIFE: Final = int(BackgroundRefreshSettings().refresh_life)
_WORDS: Final[dict[Cause, str]] = {
    "max-age": "the age that is allowed for its key",
    "setup-token": "the year of its setup token",
    "refresh-token": "its login, unless it is renewed,",
}
_HOUR: Final = 3600


class Aging(Struct, frozen=True):
    """The end of a credential's life and its cause; `at` in seconds since 1970 UTC, `notice` in seconds before that.

    `is_estimate`: the end is unknown, and estimated from the time of storing or the usual lifetime.
    """

    cause: Cause
    at: int
    notice: int
    is_estimate: bool = False

    def stage(self, now: float) -> Stage:
        if now >= self.at:
            return "over"
        return "soon" if now >= self.at - self.notice else "fine"

    def text(self, now: float) -> str:
        """Return a remark without a subject; empty before the notice."""
        stage = self.stage(now)
        if stage == "fine":
            return ""
        date = time.strftime("%Y-%m-%d", time.gmtime(self.at))
        about = "about " if self.is_estimate else ""
        return f"{_WORDS[self.cause]} {'ended' if stage == 'over' else 'ends'} {about}{date}"


def aging(document: Document) -> Aging | None:
    """Return the earliest end; None if the credential has none, or its start is unknown."""
    ends = [end for end in (_by_max_age(document), _by_itself(document)) if end is not None]
    return min(ends, key=lambda end: end.at, default=None)


def _by_max_age(document: Document) -> Aging | None:
    most, since = document.account.max_age, credential_since(document)
    if most is None or since is None or isinstance(document.credential, OAuthToken):
        return None
    return Aging("max-age", since + most, min(int(most * _SHARE), _LONGEST_NOTICE))


def _by_itself(document: Document) -> Aging | None:
    credential, since = document.credential, credential_since(document)
    end: int | None = None
    cause: Cause
    if isinstance(credential, SetupToken):
        cause, end, life, notice = "setup-token", credential.expires_at, YEAR, _SETUP_TOKEN_NOTICE
    elif _has_chain(document):
        assert isinstance(credential, OAuthToken)
        cause, end, life, notice = "refresh-token", credential.refresh_expires_at, _REFRESH_LIFE, _REFRESH_TOKEN_NOTICE
        since = _granted_at(credential)
    else:
        return None
    if end is None and since is None:
        return None
    return Aging(cause, (since or 0) + life if end is None else end, notice, is_estimate=end is None)


def _has_chain(document: Document) -> bool:
    """Whether it is a login that tokenferry renews."""
    credential = document.credential
    if not isinstance(credential, OAuthToken) or credential.is_exchanged:
        return False
    return credential.refresh is not None and document.account.owner == "tokenferry"


def _granted_at(token: OAuthToken) -> int | None:
    """Return when its tokens were granted, if that can be derived."""
    if token.obtained_at is not None or token.expires_at is None:
        return token.obtained_at
    return token.expires_at - (_USUAL_LIFE if token.lifetime is None else token.lifetime)


def credential_since(document: Document) -> int | None:
    """When the credential was made, or else stored."""
    return document.credential.obtained_at or document.account.created_at or None


def too_old_at(document: Document) -> int | None:
    """Return when `max_age` begins to forbid its use, in seconds since 1970 UTC; None without a limit."""
    limit = _by_max_age(document)
    return None if limit is None else limit.at


def check_age(document: Document, now: float) -> None:
    """Raise `NeedsLogin` for a credential that is older than its account allows."""
    at = too_old_at(document)
    if at is not None and now >= at:
        name, kind = document.account.name, document.account.kind
        raise NeedsLogin(
            f"account {name!r}: its {kind} is older than the {format_duration(document.account.max_age or 0)} that the "
            f"account allows; make a new one and run: tokenferry account add {name} --replace; or allow more with: "
            f"tokenferry account set {name} --max-age SPAN"
        )


def parse_max_age(text: str) -> int | None:
    """Read 90d, 12w, 36h or none, in seconds. Raises `UsageError`."""
    if text == "none":
        return None
    seconds = None if text.isdecimal() else parse_duration(text)  # a bare 90 would be seconds where days may be meant
    if seconds is None or not _HOUR <= seconds <= 100 * YEAR:
        raise UsageError("--max-age takes a time of an hour or more, such as 36h, 90d or 12w; or none")
    return int(seconds)
