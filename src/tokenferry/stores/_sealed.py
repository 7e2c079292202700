"""A sealed document of an account: an unencrypted header for listings, and a box that is bound to it."""

import json
from typing import Any, Final, get_args

from msgspec import Struct

from tokenferry.credentials import Kind, OAuthToken, epoch_seconds
from tokenferry.errors import CorruptFile, UsageError
from tokenferry.sealing import BrokenSeal, SealKey, close_box, open_box
from tokenferry.secret import Fields, HiddenBytes
from tokenferry.stores._document import WRITTEN_BY_NEWER, Account, Document, Owner, check_account_name

_VERSION: Final = 2
_PURPOSE: Final = "document"
_MARK: Final = 16  # characters of base64: the nonce
_CURE: Final = "restore it from a backup, or remove the account and log in again"


class Header(Struct, frozen=True):
    """The unencrypted part of a sealed document. Until the document is opened, it may be forged."""

    account: Account
    """The account without its labels, which are sealed."""
    generation: int
    fingerprint: str
    expires_at: int | None
    refresh_fingerprint: str | None
    refresh_expires_at: int | None
    key: str
    """The id of the key."""

    def to_json(self) -> dict[str, Any]:
        account = self.account
        return {
            "version": _VERSION,
            "generation": self.generation,
            "name": account.name,
            "provider": account.provider,
            "kind": account.kind,
            "owner": account.owner,
            "priority": account.priority,
            "created_at": account.created_at,
            "expires_at": self.expires_at,
            "refresh_expires_at": self.refresh_expires_at,
            "fingerprint": self.fingerprint,
            "refresh_fingerprint": self.refresh_fingerprint,
            "key": self.key,
        }

    @classmethod
    def of(cls, document: Document, key: SealKey) -> "Header":
        account, credential = document.account, document.credential
        token = credential if isinstance(credential, OAuthToken) else None
        return cls(
            account=Account(
                account.name,
                account.provider,
                account.kind,
                account.owner,
                priority=account.priority,
                created_at=account.created_at,
            ),
            generation=document.generation,
            fingerprint=credential.secret.fingerprint,
            expires_at=credential.expires_at,
            refresh_fingerprint=token.refresh.fingerprint if token and token.refresh else None,
            refresh_expires_at=token.refresh_expires_at if token else None,
            key=key.id,
        )


class SealedDocument(Struct, frozen=True):
    """A header and its box."""

    header: Header
    box: str

    @classmethod
    def seal(cls, document: Document, key: SealKey) -> "SealedDocument":
        header = Header.of(document, key)
        return cls(header, close_box(key, document.to_bytes(), _PURPOSE, header.to_json()))

    def open(self, key: SealKey, place: str) -> Document:
        """Give the document. Raises `CorruptFile` if a program without the key changed it."""
        try:
            plain = open_box(key, self.box, _PURPOSE, self.header.to_json())
        except BrokenSeal as fault:
            reason = str(fault)
        else:
            return Document.from_bytes(plain, self.header.account.name, place)
        raise CorruptFile(f"{place} is not as it was sealed: {reason}; {_CURE}")

    def to_bytes(self) -> bytes:
        return json.dumps({**self.header.to_json(), "sealed": self.box}, indent=1).encode("ascii") + b"\n"


class Resealed:
    """The sealed documents that this process saw replaced.

    No box is made twice, so one that returns is an older document, which a restored backup or somebody without the key
    has put back.
    """

    def __init__(self) -> None:
        self._present: dict[str, str] = {}
        self._past: dict[str, set[str]] = {}

    def check(self, place: str, sealed: SealedDocument) -> None:
        """Raise `CorruptFile` if this document was replaced before."""
        mark = sealed.box[:_MARK]
        before = self._present.get(place)
        if mark == before:
            return
        past = self._past.setdefault(place, set())
        if mark in past:
            raise CorruptFile(
                f"{place} is an older document (generation {sealed.header.generation}) than one that this process saw "
                "in its place, whose login may be used up; bring the newer one back, or restart this process if you "
                "restored it yourself"
            )
        if before is not None:
            past.add(before)
        self._present[place] = mark


def parse_sealed(raw: HiddenBytes, fields: Fields, name: str, place: str) -> SealedDocument | None:
    """Read the account's document as `to_bytes` wrote it; None if it is unencrypted. Raises `CorruptFile`."""
    if "sealed" not in fields:
        return None
    try:
        sealed = SealedDocument(_header(fields), _text(fields, "sealed"))
    except (UsageError, KeyError) as fault:
        reason = str(fault)
    else:
        if sealed.header.account.name != name:
            reason = f'it names the account "{sealed.header.account.name}"'
        elif sealed.to_bytes() == raw:  # to the byte: there is one spelling, and nothing vouches for what is beside it
            return sealed
        elif isinstance(fields.get("version"), int) and fields["version"] > _VERSION:
            reason = f"it is of version {fields['version']}, {WRITTEN_BY_NEWER}"
        else:
            reason = "it is not as it was sealed"
    raise CorruptFile(f"{place} can't be understood: {reason}; {_CURE}")


def _header(fields: Fields) -> Header:
    return Header(
        account=Account(
            name=check_account_name(_text(fields, "name")),
            provider=_text(fields, "provider"),
            kind=_one_of(fields, "kind", get_args(Kind)),
            owner=_one_of(fields, "owner", get_args(Owner)),
            priority=_number(fields, "priority"),
            created_at=epoch_seconds(fields.get("created_at")),
        ),
        generation=_number(fields, "generation"),
        fingerprint=_text(fields, "fingerprint"),
        expires_at=_moment(fields, "expires_at"),
        refresh_fingerprint=None if fields.get("refresh_fingerprint") is None else _text(fields, "refresh_fingerprint"),
        refresh_expires_at=_moment(fields, "refresh_expires_at"),
        key=_text(fields, "key"),
    )


def _text(fields: Fields, key: str) -> str:
    if not isinstance(fields.get(key), str):
        raise UsageError(f'"{key}" is missing or no string')
    return str(fields[key])


def _number(fields: Fields, key: str) -> int:
    value = fields.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise UsageError(f'"{key}" is missing or no number')
    return value


def _moment(fields: Fields, key: str) -> int | None:
    return None if fields.get(key) is None else epoch_seconds(fields[key])


def _one_of(fields: Fields, key: str, options: tuple[str, ...]) -> Any:
    if fields.get(key) not in options:
        raise UsageError(f'"{key}" must be one of {", ".join(options)}')
    return fields[key]
