import json
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias, TypeVar, get_args

from msgspec import Struct
from msgspec.structs import replace

from tokenferry.credentials import CLIENT_KEY_PREFIXES
from tokenferry.errors import UsageError
from tokenferry.settings import NO_CAPS, Caps
from tokenferry.state._database import Row
from tokenferry.state._rights import EVERYTHING, Rights, read_rights
from tokenferry.stores import ACCOUNT_NAME, MOST_LABELS, check_label

_Value = TypeVar("_Value")

Role: TypeAlias = Literal["client", "admin", "viewer", "metrics"]
"""`client`: inference. `admin`: the admin API and `/metrics`. `viewer`: reads both. `metrics`: reads `/metrics`."""
PREFIXES: Final[Mapping[str, str]] = MappingProxyType(dict(zip(get_args(Role), CLIENT_KEY_PREFIXES, strict=True)))

NO_LABELS: Final[Mapping[str, str]] = MappingProxyType({})
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_DIGEST: Final = 32
KEY_CAPS: Final = ("requests_per_minute", "tokens_per_minute", "max_concurrency")
_MOST_ASKED: Final = 10**12
_LAST_SECOND: Final = 4_102_444_800  # the year 2100


class ClientKey(Struct, frozen=True):
    """A key that callers of the gateway present, without the secret itself. Times are seconds since 1970 UTC."""

    id: str
    name: str
    role: Role
    created_at: int
    fingerprint: str
    last_used_at: int | None = None
    revoked_at: int | None = None
    expires_at: int | None = None
    labels: Mapping[str, str] = NO_LABELS
    rights: Rights = EVERYTHING
    budgets: tuple[str, ...] = ()
    """Its limits of use, in the form that `SpendingLimit` reads: `20usd/day`."""
    caps: Caps = NO_CAPS
    """Its limits of requests and tokens per minute, and of requests at a time."""
    fault: str | None = None
    """Which part of its record is invalid; such a key is refused."""

    @property
    def admin(self) -> bool:
        return self.role == "admin"

    def is_expired(self, now: float) -> bool:
        return self.expires_at is not None and self.expires_at <= now

    def state(self, now: float) -> Literal["live", "expired", "revoked", "damaged"]:
        """Its state at `now`, in seconds since 1970 UTC."""
        if self.revoked_at is not None:
            return "revoked"
        if self.fault is not None:
            return "damaged"
        return "expired" if self.is_expired(now) else "live"

    def is_live(self, now: float) -> bool:
        """Whether the gateway accepts it at `now` (seconds since 1970 UTC)."""
        return self.state(now) == "live"


def client_key(row: Row) -> ClientKey:
    """Read a row of the table. An invalid part is left out, and becomes the key's `fault`."""
    faults: list[str] = []

    def read(column: str, read: Callable[[Any], _Value], otherwise: _Value) -> _Value:
        try:
            return read(row[column])
        except (ValueError, TypeError, KeyError, RecursionError, UsageError):
            faults.append(column)
            return otherwise

    id_ = read("id", _id, ascii(row["id"]))
    key = ClientKey(
        id=id_,
        name=read("name", _name, id_),
        role=read("role", _role(row["admin"]), "metrics"),
        created_at=_shown(row["created_at"]) or 0,
        fingerprint=read("digest", _digest, b"").hex()[:8],
        last_used_at=_shown(row["last_used_at"]),
        revoked_at=read("revoked_at", _time, None),
        expires_at=read("expires_at", _time, None),
        labels=read("labels", _labels, NO_LABELS),
        rights=read("rights", read_rights, EVERYTHING),
        budgets=read("budgets", _budgets, ()),
        caps=read("caps", _caps, NO_CAPS),
    )
    return replace(key, fault=f"its {' and '.join(faults)} can't be read") if faults else key


def _id(text: str) -> str:
    if not _ID.fullmatch(text):
        raise ValueError("no id")
    return text


def _name(text: str) -> str:
    check_key_name(text)
    return text


def _role(admin: int) -> Callable[[str], Role]:
    """Read a role. The older column `admin` must agree with it."""

    def read(text: str) -> Role:
        if text not in PREFIXES or admin != (text == "admin"):
            raise ValueError("no role")
        return text  # type: ignore[return-value]  # it was looked up

    return read


def _digest(digest: bytes) -> bytes:
    if len(digest) != _DIGEST:
        raise ValueError("no sha256")
    return digest


def _time(seconds: int | None) -> int | None:
    if seconds is not None and not 0 <= seconds <= _LAST_SECOND:
        raise ValueError("no time")
    return seconds


def _shown(seconds: int | None) -> int | None:
    """Read a time that is only displayed; None if it is invalid."""
    try:
        return _time(seconds)
    except ValueError:
        return None


def _labels(text: str) -> Mapping[str, str]:
    if text == "{}":
        return NO_LABELS
    labels = json.loads(text)
    if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
        raise ValueError("no labels")
    write_labels(labels)
    return MappingProxyType(labels)


def _budgets(text: str) -> tuple[str, ...]:
    if text == "[]":
        return ()
    limits = json.loads(text)
    if not isinstance(limits, list) or write_budgets(limits) != text:
        raise ValueError("no budgets")
    return tuple(limits)


def write_budgets(limits: Sequence[str]) -> str:
    """Give limits as the table stores them, one for each period and unit. Raises `UsageError` for invalid ones."""
    if not limits:
        return "[]"
    from tokenferry.budgets import SpendingLimit  # noqa: PLC0415  # few keys have a budget

    found: dict[tuple[str, str], str] = {}
    for text in limits:
        try:
            limit = SpendingLimit.parse(text)
        except ValueError as fault:
            raise UsageError(f"the budget {text[:40]!r} {fault}") from None
        if (limit.unit, limit.period) in found:
            raise UsageError(f"two budgets in {limit.unit} a {limit.period} were given; give one")
        found[limit.unit, limit.period] = str(limit)
    return json.dumps([*found.values()])


def key_caps(requests_per_minute: float = 0, tokens_per_minute: float = 0, max_concurrency: int = 0) -> Caps:
    """The rates of a client key; all requests of a minute may come at once. Raises `UsageError` for invalid ones."""
    if not all(0 <= most <= _MOST_ASKED for most in (requests_per_minute, tokens_per_minute, max_concurrency)):
        raise UsageError(f"a client key's rates must be numbers from 0 to {_MOST_ASKED:,}; 0 is no limit")
    return Caps(requests_per_minute, tokens_per_minute, max(int(requests_per_minute), 1), max_concurrency)


def _caps(text: str) -> Caps:
    if text == "{}":
        return NO_CAPS
    stored = json.loads(text)
    if not all(type(most) in {int, float} for most in stored.values()):
        raise ValueError("no numbers")
    return key_caps(**stored)


def write_caps(caps: Caps) -> str:
    """Give caps as the table stores them."""
    return json.dumps({name: most for name in KEY_CAPS if (most := getattr(caps, name))})


def check_key_name(name: str) -> None:
    """Raise `UsageError` unless this is a valid name of a client key."""
    if not ACCOUNT_NAME.fullmatch(name):
        raise UsageError(
            f"{name[:80]!r} can't be a client key's name: use 1 to 64 of A-Z a-z 0-9 . _ @ + -, a letter or digit first"
        )


def check_expiry(expires_at: int | None, now: float) -> None:
    """Raise `UsageError` for a time in the past, or after 2100."""
    if expires_at is not None and not now < expires_at < _LAST_SECOND:
        raise UsageError("a client key's expiry must lie ahead, and before the year 2100")


def check_labels(labels: Mapping[str, str]) -> None:
    """Raise `UsageError` unless these are valid labels of a client key."""
    for name, value in labels.items():
        check_label(name, value)
    if len(labels) > MOST_LABELS:
        raise UsageError(f"a client key has {MOST_LABELS} labels at most")


def write_labels(labels: Mapping[str, str]) -> str:
    """Give labels as the table stores them. Raises as `check_labels`."""
    check_labels(labels)
    return json.dumps(dict(sorted(labels.items())))
