"""Where a program looks for a credential, in its order, and what it finds there."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Final, Literal, TypeAlias
from urllib.parse import urlsplit, urlunsplit

from msgspec import Struct, field
from msgspec.structs import replace

from tokenferry.credentials import API_KEY_PREFIX, CLIENT_KEY_PREFIXES

State: TypeAlias = Literal["used", "fails", "shadowed", "unusable", "absent", "unseen"]

# The last kinds are the gateway's own keys.
_KINDS: Final = (
    (API_KEY_PREFIX, "API key"),
    ("sk-ant-oat", "OAuth token"),
    *zip(CLIENT_KEY_PREFIXES, ("client key", "admin key", "viewer key", "metrics key"), strict=True),
)


class Held(Struct, frozen=True):
    """A credential that was found, known by its sha256 alone. `expires_at` in seconds since 1970 UTC."""

    digest: str
    kind: str
    expires_at: int | None = None

    @classmethod
    def of(cls, value: str, expires_at: int | None = None) -> "Held":
        digest = sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
        kind = next((kind for prefix, kind in _KINDS if value.startswith(prefix)), "token or key")
        return cls(digest, kind, expires_at)

    @property
    def fingerprint(self) -> str:
        return self.digest[:8]


class CredentialOrigin(Struct, frozen=True):
    """One place in a program's order. `reason` is a sentence; `problems` will cause trouble later.

    A source with state "used" decides. One that "fails" decides, too, and the program ends with an error. An
    "unusable" one is skipped.
    """

    name: str
    where: str
    state: State
    reason: str
    held: Held | None = None
    problems: tuple[str, ...] = ()
    refresh: str | None = None
    """The sha256 of the refresh token that is stored beside it."""


class Chain(Struct, frozen=True):
    """A program's order on this machine. `sends` names, by header, the source whose credential is in it.

    `base_url` is the address as it may be shown.
    """

    program: str
    sources: tuple[CredentialOrigin, ...]
    base_url: str
    base_url_from: str
    sends: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def winner(self) -> CredentialOrigin | None:
        """The source that decides; None if the program finds nothing."""
        return next((source for source in self.sources if source.state in {"used", "fails"}), None)

    def source(self, name: str) -> CredentialOrigin:
        return next(source for source in self.sources if source.name == name)


def ranked(found: Sequence[CredentialOrigin]) -> tuple[CredentialOrigin, ...]:
    """Mark each source behind the first one that decides as shadowed."""
    winner: CredentialOrigin | None = None
    sources: list[CredentialOrigin] = []
    for source in found:
        if source.state not in {"used", "fails"}:
            sources.append(source)
        elif winner is None:
            winner = source
            sources.append(source)
        else:
            sources.append(replace(source, state="shadowed", reason=f"{winner.name} overrides it"))
    return tuple(sources)


def plain_url(url: str) -> str:
    """An address without user name, password and query, safe to show."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that can't be read"
    if "@" not in parts.netloc and not parts.query and not parts.fragment:
        return url
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def absent(name: str, where: str, reason: str) -> CredentialOrigin:
    return CredentialOrigin(name, where, "absent", reason)


ENVIRONMENT: Final = "the environment"
