"""Decides when each login is renewed, without I/O: documents and times in, decisions out."""

import math
from collections.abc import Iterable
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from tokenferry.credentials import OAuthToken
from tokenferry.errors import CredentialRefused, NeedsLogin, RefreshUncertain, TokenferryError, TryLater
from tokenferry.refresh import window
from tokenferry.settings import BackgroundRefreshSettings
from tokenferry.stores import Document

Reason: TypeAlias = Literal["published", "idle", "clock"]

_SPREAD: Final = 0.1  # the share of a span by which renewals come earlier, so that logins of one hour don't meet again
_USUAL_LIFE: Final = 28_800.0
_CLOCK_SLACK: Final = 300.0
_LEAST_LIFE: Final = 60.0
_LEAST_PAUSE: Final = 5.0
_JUMP: Final = 5.0
_HOLD: Final = 5.0
_FIRST_PAUSE: Final[dict[Reason, float]] = {"published": 5.0, "idle": 300.0, "clock": 300.0}
_LONGEST_PAUSE: Final[dict[Reason, float]] = {"published": 60.0, "idle": 3600.0, "clock": 3600.0}
_DOUBLINGS: Final = 10
_REPORT_AGAIN: Final = 3600.0


class Moment(Struct, frozen=True):
    """Now, by both clocks: `wall` in seconds since 1970 UTC, `steady` in seconds, without jumps."""

    wall: float
    steady: float


class Renewal(Struct, frozen=True):
    """The renewal of one login at a time (seconds since 1970 UTC), with its reason."""

    document: Document
    at: float
    reason: Reason

    @property
    def name(self) -> str:
        return self.document.account.name

    @property
    def token(self) -> OAuthToken:
        """The token to replace."""
        assert isinstance(self.document.credential, OAuthToken)
        return self.document.credential


def next_renewal(
    document: Document, *, is_published: bool, now: float, settings: BackgroundRefreshSettings
) -> Renewal | None:
    """Give the next renewal of the account's login though no program asks for it; None if it isn't ours to renew.

    A published login is renewed in time for the programs that read its profile, any other before its refresh token
    lapses, and one whose times come from a wrong clock at once. Claude Code's own login is never renewed while its
    token is valid.
    """
    token, owner = document.credential, document.account.owner
    if not isinstance(token, OAuthToken) or not token.is_renewable or owner not in {"tokenferry", "claude-code"}:
        return None
    spread = _SPREAD * int(token.secret.sha256[:8], 16) / 0xFFFF_FFFF
    times: list[tuple[float, Reason]] = []
    if is_published and token.expires_at is not None:
        soonest = -math.inf if token.obtained_at is None else token.obtained_at + _LEAST_PAUSE
        at = token.expires_at - window(token, settings.ahead) * (1 + spread)
        times.append((max(at, soonest), "published"))
    granted = _granted_at(document, now) if token.refresh is not None else None
    if granted is not None:
        lapse = granted + settings.refresh_life if token.refresh_expires_at is None else token.refresh_expires_at
        if lapse > granted + _LEAST_LIFE:  # otherwise that time is proven wrong by the grant
            times.append((granted + max((lapse - granted) * settings.idle * (1 - spread), _LEAST_LIFE), "idle"))
    if owner == "claude-code":
        if token.expires_at is None:
            return None
        times = [(max(at, token.expires_at + 1.0), reason) for at, reason in times]
    elif token.obtained_at is not None and token.obtained_at > now + _CLOCK_SLACK:
        times.append((now, "clock"))
    if not times:
        return None
    at, reason = min(times)
    return Renewal(document, at, reason)


def _granted_at(document: Document, now: float) -> float | None:
    """Give when the refresh token was granted, as precisely as is known."""
    token, created = document.credential, document.account.created_at
    assert isinstance(token, OAuthToken)
    if token.obtained_at is not None:
        return token.obtained_at
    if token.expires_at is not None:
        granted = token.expires_at - (_USUAL_LIFE if token.lifetime is None else token.lifetime)
        if granted <= now:
            return granted
    return created or None


class _Setback(Struct):
    """A renewal that failed. None is tried until this time, by both clocks."""

    version: tuple[int, str]
    steady: float = 0.0
    wall: float = 0.0
    failures: int = 0
    kind: type[TokenferryError] | None = None
    reported: float = -math.inf


class Schedule:
    """The times of the next renewals, given the outcomes of earlier ones.

    A failure is followed by a growing pause, and a lost answer by a wait until the token's end. A dead login isn't
    tried until its document changes. After a jump of the clock, or the machine's sleep, nothing begins for some
    seconds. `jitter` gives a number between 0 and 1.
    """

    def __init__(self, settings: BackgroundRefreshSettings, jitter: float = 0.5) -> None:
        self._settings = settings
        self._jitter = jitter
        self._setbacks: dict[str, _Setback] = {}
        self._offset: float | None = None
        self._hold = 0.0

    def observe(self, now: Moment) -> float:
        """Read the clocks; give by how many seconds they have moved apart since the last time, if that is a jump."""
        offset = now.wall - now.steady
        moved = 0.0 if self._offset is None else offset - self._offset
        self._offset = offset
        if abs(moved) < _JUMP:
            return 0.0
        self._hold = now.steady + _HOLD * (1 + self._jitter)
        return moved

    def plan(self, documents: Iterable[Document], published: frozenset[str], now: Moment) -> list[Renewal]:
        """Give every coming renewal, the earliest first; dead logins have none."""
        found: list[Renewal] = []
        for document in documents:
            name = document.account.name
            renewal = next_renewal(document, is_published=name in published, now=now.wall, settings=self._settings)
            setback = self._setbacks.get(name)
            if renewal is None or (setback and setback.version == _version(document) and setback.steady == math.inf):
                continue
            found.append(renewal)
        return sorted(found, key=lambda one: (one.at, one.name))

    def due(self, plan: Iterable[Renewal], now: Moment) -> list[Renewal]:
        """Give the renewals to begin now."""
        if now.steady < self._hold:
            return []
        return [renewal for renewal in plan if renewal.at <= now.wall and self._is_free(renewal, now)]

    def succeeded(self, name: str) -> None:
        self._setbacks.pop(name, None)

    def failed(self, renewal: Renewal, fault: TokenferryError, now: Moment) -> bool:
        """Note a failure; tell whether it is new."""
        version = _version(renewal.document)
        setback = self._setbacks.get(renewal.name)
        if setback is None or setback.version != version:
            setback = self._setbacks[renewal.name] = _Setback(version)
        setback.failures += 1
        setback.steady, setback.wall = now.steady + self._pause(renewal.reason, setback.failures, fault), 0.0
        if isinstance(fault, RefreshUncertain) and renewal.token.expires_at is not None:
            setback.wall = renewal.token.expires_at + 1.0
        is_news = setback.kind is not type(fault) or now.steady >= setback.reported + _REPORT_AGAIN
        if is_news:
            setback.kind, setback.reported = type(fault), now.steady
        return is_news

    def _pause(self, reason: Reason, failures: int, fault: TokenferryError) -> float:
        """Give the seconds until the next try. The refresh itself also waits as long as the provider asked."""
        if is_dead(fault):
            return math.inf
        asked = (fault.retry_after or 0.0) if isinstance(fault, TryLater) else 0.0
        grown = _FIRST_PAUSE[reason] * 2.0 ** min(failures - 1, _DOUBLINGS) * (0.5 + 0.5 * self._jitter)
        return min(max(asked, grown), _LONGEST_PAUSE[reason])

    def _is_free(self, renewal: Renewal, now: Moment) -> bool:
        setback = self._setbacks.get(renewal.name)
        if setback is None or setback.version != _version(renewal.document):
            return True
        return now.steady >= setback.steady and now.wall >= setback.wall


def is_dead(fault: TokenferryError) -> bool:
    """Tell whether only a person can help, so that another try is useless."""
    return isinstance(fault, NeedsLogin | CredentialRefused)


def _version(document: Document) -> tuple[int, str]:
    return document.generation, document.credential.secret.sha256
