import json
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias, get_args

from msgspec import Struct, field

from tokenferry.credentials import Credential, Kind, credential_from_json, epoch_seconds
from tokenferry.errors import CorruptFile, UsageError
from tokenferry.secret import Fields, parse_object

Owner: TypeAlias = Literal["tokenferry", "claude-code", "ant", "external"]

ACCOUNT_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
DEFAULT_PRIORITY: Final = 100
MOST_LABELS: Final = 32
COMMAND: Final = "command"
"""The store of an account whose key a command prints."""
GOOGLE: Final = "google"
"""The store of an account whose token Google's credentials fetch."""
FETCHED: Final = frozenset((COMMAND, GOOGLE))
VERSION: Final = 1
WRITTEN_BY_NEWER: Final = (
    "written by a newer tokenferry; install that one again, or see how to go back: tokenferry help server"
)
"""The message for a file that a newer version wrote."""
_LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,63}")
_LONGEST_VALUE: Final = 256
_CURE: Final = "restore it from a backup, or move it away and run: tokenferry account add NAME"
_KEYS: Final = (
    "version",
    "generation",
    "machine",
    "name",
    "provider",
    "kind",
    "owner",
    "labels",
    "priority",
    "created_at",
    "max_age",
    "paused",
    "paused_until",
    "credential",
)


def check_account_name(name: str) -> str:
    """Return the name if it is valid for an account. Raises `UsageError`."""
    if not ACCOUNT_NAME.fullmatch(name):
        raise UsageError(
            f"{name[:80]!r} can't be an account's name: use 1 to 64 of A-Z a-z 0-9 . _ @ + -, a letter or digit first"
        )
    return name


def check_label(name: str, value: str) -> None:
    """Raise `UsageError` for an invalid label of an account or client key."""
    if not _LABEL.fullmatch(name):
        raise UsageError(
            f"{name[:80]!r} can't be a label's name: use 1 to 64 of A-Z a-z 0-9 . _ / -, a letter or digit first"
        )
    if len(value) > _LONGEST_VALUE or not value.isprintable():
        raise UsageError(f"the value of label {name} must be printable and at most {_LONGEST_VALUE} characters long")


def refuse_twin(name: str, names: Iterable[str]) -> None:
    """Raise `UsageError` if another account's name differs from this one only in case."""
    if twin := next((other for other in names if other.casefold() == name.casefold() and other != name), None):
        raise UsageError(f"account {twin!r} exists, and {name!r} differs in case alone; use another name")


class Account(Struct, frozen=True):
    """An account without its secret. `created_at` is in seconds since 1970 UTC.

    `max_age` is the greatest allowed age of a key or setup token in seconds; None for no limit.
    """

    name: str
    provider: str
    kind: Kind
    owner: Owner = "tokenferry"
    store: str = "file"
    labels: Mapping[str, str] = MappingProxyType({})
    priority: int = DEFAULT_PRIORITY
    created_at: int = 0
    max_age: int | None = None
    paused: bool = False
    """Whether its owner has paused it: no gateway uses it."""
    paused_until: int | None = None
    """When a pause ends by itself, in seconds since 1970 UTC; None if only `resume` ends it."""
    in_use: bool = False
    """Whether `use` selected it, which puts it first in its provider's pool. Documents don't store this."""

    def __hash__(self) -> int:
        return hash(self.name)


class Document(Struct, frozen=True):
    """An account with its credential. Every write increments the generation."""

    account: Account
    credential: Credential
    generation: int = 1
    machine: str | None = None
    unknown: Fields = field(default_factory=Fields)

    def __hash__(self) -> int:
        return hash((self.account, self.generation))

    def to_bytes(self) -> bytes:
        """Give the document as JSON, secrets revealed."""
        fields = Fields(
            version=VERSION,
            generation=self.generation,
            machine=self.machine,
            **account_to_json(self.account),
            credential=self.credential.to_json(),
            **self.unknown,
        )
        return json.dumps(fields, indent=1).encode("ascii") + b"\n"

    @classmethod
    def from_bytes(cls, raw: bytes, name: str, place: str) -> "Document":
        """Read the document of this account as `to_bytes` wrote it. Raises `CorruptFile` with its path."""
        fields = parse_object(raw)
        del raw  # a traceback shows the locals of this frame
        return cls.from_fields(fields, name, place)

    @classmethod
    def from_fields(cls, fields: Fields | None, name: str, place: str) -> "Document":
        """Read a parsed document; None means that it wasn't a JSON object."""
        if fields is None:
            raise CorruptFile(f"{place} isn't a JSON object; {_CURE}")
        try:
            return cls._from_fields(fields, name)
        except UsageError as fault:
            reason = str(fault)
        raise CorruptFile(f"{place} can't be understood: {reason}; {_CURE}")

    @classmethod
    def _from_fields(cls, fields: Fields, name: str) -> "Document":
        account = account_from_json(fields, name)
        return cls(
            account=account,
            credential=credential_from_json(account.kind, _checked(fields, "credential", Fields)),
            generation=_checked(fields, "generation", int),
            machine=None if fields.get("machine") is None else _checked(fields, "machine", str),
            unknown=fields.without(*_KEYS),
        )


def account_to_json(account: Account) -> dict[str, Any]:
    """Give the account as a document describes it, wherever its credential is stored."""
    optional = {"max_age": account.max_age, "paused": account.paused or None, "paused_until": account.paused_until}
    return {
        "name": account.name,
        "provider": account.provider,
        "kind": account.kind,
        "owner": account.owner,
        "labels": dict(account.labels),
        "priority": account.priority,
        "created_at": account.created_at,
        **{key: value for key, value in optional.items() if value is not None},
    }


def account_from_json(fields: Fields, name: str, *, store: str = "file") -> Account:
    """Read the result of `account_to_json` for the account of this name. Raises `UsageError` with the field."""
    version = _checked(fields, "version", int)
    if version > VERSION:
        raise UsageError(f"it is of version {version}, {WRITTEN_BY_NEWER}")
    is_paused, until = _flag(fields, "paused"), fields.get("paused_until")
    account = Account(
        name=check_account_name(_checked(fields, "name", str)),
        provider=_checked(fields, "provider", str),
        kind=_one_of(fields, "kind", get_args(Kind)),
        owner=_one_of(fields, "owner", get_args(Owner)),
        store=store,
        labels=MappingProxyType(_labels(fields)),
        priority=_checked(fields, "priority", int),
        created_at=epoch_seconds(_checked(fields, "created_at", int)),
        max_age=None if fields.get("max_age") is None else _checked(fields, "max_age", int),
        paused=is_paused,
        paused_until=epoch_seconds(_checked(fields, "paused_until", int)) if is_paused and until is not None else None,
    )
    if account.name != name:
        raise UsageError(f'it names another account, "{account.name}"')
    return account


def _checked(fields: Fields, key: str, kind: type[Any]) -> Any:
    value = fields.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise UsageError(f'"{key}" is missing or has the wrong type')
    return value


def _flag(fields: Fields, key: str) -> bool:
    if not isinstance(fields.get(key, False), bool):
        raise UsageError(f'"{key}" must be true or false')
    return bool(fields.get(key, False))


def _labels(fields: Fields) -> dict[str, str]:
    labels = _checked(fields, "labels", Fields)
    if not all(isinstance(value, str) for value in labels.values()):
        raise UsageError('"labels" must hold strings alone')
    return dict(labels)


def _one_of(fields: Fields, key: str, options: tuple[str, ...]) -> Any:
    value = _checked(fields, key, str)
    if value not in options:
        raise UsageError(f'"{key}" must be one of {", ".join(options)}')
    return value
