import json
import re
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from tokenferry.errors import UsageError
from tokenferry.state._rights import EVERYTHING, Rights, read_rights
from tokenferry.stores import ACCOUNT_NAME

NO_LABELS: Final[Mapping[str, str]] = MappingProxyType({})
_LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,63}")
_LONGEST_VALUE: Final = 256
_MOST_LABELS: Final = 32
_LAST_SECOND: Final = 4_102_444_800  # the year 2100


@dataclass(frozen=True, slots=True)
class ClientKey:
    """A key that callers of the gateway present, without the secret itself. Times are seconds since 1970 UTC."""

    id: str
    name: str
    admin: bool
    created_at: int
    fingerprint: str
    last_used_at: int | None = None
    revoked_at: int | None = None
    expires_at: int | None = None
    labels: Mapping[str, str] = field(default_factory=lambda: NO_LABELS, hash=False)
    rights: Rights = EVERYTHING

    def is_expired(self, now: float) -> bool:
        return self.expires_at is not None and self.expires_at <= now


def client_key(row: sqlite3.Row) -> ClientKey:
    """Read a row of the table."""
    return ClientKey(
        id=row["id"],
        name=row["name"],
        admin=bool(row["admin"]),
        created_at=row["created_at"],
        fingerprint=row["digest"].hex()[:8],
        last_used_at=row["last_used_at"],
        revoked_at=row["revoked_at"],
        expires_at=row["expires_at"],
        labels=NO_LABELS if row["labels"] == "{}" else MappingProxyType(json.loads(row["labels"])),
        rights=read_rights(row["rights"]),
    )


def check_key_name(name: str) -> None:
    """Raise `UsageError` unless it may be a client key's name."""
    if not ACCOUNT_NAME.fullmatch(name):
        raise UsageError(
            f"{name[:80]!r} can't be a client key's name: use 1 to 64 of A-Z a-z 0-9 . _ @ + -, a letter or digit first"
        )


def check_expiry(expires_at: int | None, now: float) -> None:
    """Raise `UsageError` for a moment that lies behind, or beyond 2100."""
    if expires_at is not None and not now < expires_at < _LAST_SECOND:
        raise UsageError("a client key's expiry must lie ahead, and before the year 2100")


def write_labels(labels: Mapping[str, str]) -> str:
    """Give labels as the table keeps them. Raises `UsageError` for those that can't be."""
    for name, value in labels.items():
        if not _LABEL.fullmatch(name):
            raise UsageError(
                f"{name[:80]!r} can't be a label's name: use 1 to 64 of A-Z a-z 0-9 . _ / -, a letter or digit first"
            )
        if len(value) > _LONGEST_VALUE or not value.isprintable():
            raise UsageError(f"the value of label {name} must be printable, and of {_LONGEST_VALUE} characters at most")
    if len(labels) > _MOST_LABELS:
        raise UsageError(f"a client key has {_MOST_LABELS} labels at most")
    return json.dumps(dict(sorted(labels.items())))
