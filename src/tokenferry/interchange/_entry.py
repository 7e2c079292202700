from typing import Final, Literal, TypeAlias, get_args

from msgspec import Struct
from msgspec.structs import replace

from tokenferry.credentials import Credential, OAuthToken
from tokenferry.errors import UsageError

Format: TypeAlias = Literal["pool", "ccm", "ccm-config", "bundle", "claude-code", "profile", "env", "key-file"]

FORMATS: Final[tuple[Format, ...]] = get_args(Format)


class Entry(Struct, frozen=True):
    """One account in a file of another program: its credential, or in `fault` the reason why it has none.

    `key` is its name in the file, `provider` our provider for it, if that is known. `is_limited` and `limited_until`
    (seconds since 1970 UTC) are its limits in a pool.
    """

    key: str
    credential: Credential | None = None
    fault: str = ""
    provider: str | None = None
    is_limited: bool = False
    limited_until: int | None = None


def without_refresh(token: OAuthToken) -> OAuthToken:
    """Give a token set without its token family: the access token, with its own expiry."""
    return replace(token, refresh=None, refresh_expires_at=None)


def refuse_fewer_tokens(found: OAuthToken | None, token: OAuthToken, where: str) -> None:
    """Raise `UsageError` if a refresh token would be overwritten by a token set without one."""
    if found is not None and found.refresh is not None and token.refresh is None:
        raise UsageError(f"{where} holds a refresh token, which a token without one is never written over")
