"""A published profile of the official SDKs: its content, and the record that proves it ours."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import asdict

from tokenferry.credentials import ApiKey, Credential, OAuthToken
from tokenferry.errors import CorruptFile, UsageError
from tokenferry.secret import Fields, Secret, parse_object
from tokenferry.stores.anthropic_profiles import ProfileFolder, render_config, render_credentials

_VERSION: Final = 1
_READ_EACH_TIME: Final = 0  # an `expires_at` by which the SDKs keep no copy


class Content(Struct, frozen=True):
    """The intended content of a profile; `expires_at` in seconds since 1970 UTC, None for no expiry."""

    secret: Secret
    expires_at: int | None
    base_url: str

    @classmethod
    def of(cls, name: str, credential: Credential, base_url: str) -> "Content":
        """Make an account's profile. Raises `UsageError` for a credential that a profile can't hold."""
        if isinstance(credential, ApiKey):
            raise UsageError(
                f"account {name!r} holds an API key, and a profile can hold only a token; set its variable "
                f"instead, which this prints: tokenferry token {name} --env"
            )
        expires_at = credential.expires_at
        if expires_at is None and isinstance(credential, OAuthToken):
            expires_at = _READ_EACH_TIME  # it may be renewed at an unknown time
        return cls(credential.secret, expires_at, base_url)

    def config(self) -> bytes:
        return render_config(self.base_url)

    def credentials(self) -> bytes:
        return render_credentials(self.secret, self.expires_at)


def digest(content: bytes) -> str:
    """Return the sha256 of a file's content, in hex, which shows whether we wrote it."""
    return sha256(content).hexdigest()


class Publication(Struct, frozen=True):
    """A profile that is ours. `account` is None for the gateway's own."""

    profile: str
    folder: ProfileFolder
    account: str | None
    base_url: str
    written: tuple[str, ...] = ()
    """The sha256 of every content that we may have written to its files."""
    is_complete: bool = False
    """Whether both files existed; a missing one was then removed by another program."""
    activated: bool = False
    """Whether we made it the active profile."""
    replaced: str | None = None
    """The profile that was active before that."""

    @property
    def source(self) -> str:
        """The source of its token, for people."""
        return "the gateway" if self.account is None else f"account {self.account}"

    @property
    def config(self) -> Path:
        return self.folder.config(self.profile)

    @property
    def credentials(self) -> Path:
        return self.folder.credentials(self.profile)

    def to_bytes(self) -> bytes:
        """Return the record as JSON; it holds no secret."""
        fields = {**asdict(self), "version": _VERSION, "folder": str(self.folder.path)}
        return json.dumps(fields, indent=1).encode("ascii") + b"\n"

    @classmethod
    def from_bytes(cls, raw: bytes, path: Path) -> "Publication":
        """Read what `to_bytes` wrote. Raises `CorruptFile`."""
        fields = parse_object(raw)
        if fields is None or fields.get("version") != _VERSION or not _is_record(fields):
            raise CorruptFile(
                f"{path} can't be understood, so its profile is unknown; remove it and the profile, then publish the "
                "account again"
            )
        given = fields.without("version", "folder", "written")
        return cls(**given, folder=ProfileFolder(Path(fields["folder"])), written=tuple(fields["written"]))


def _is_record(fields: Fields) -> bool:
    types = {
        "version": int, "profile": str, "folder": str, "account": str | None, "base_url": str, "written": list,
        "is_complete": bool, "activated": bool, "replaced": str | None,
    }  # fmt: skip
    has_types = set(fields) == set(types) and all(isinstance(fields[key], kind) for key, kind in types.items())
    return has_types and all(isinstance(one, str) for one in fields["written"])
