"""An account's credential in the formats of other programs."""

from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

from tokenferry.accounts._sealing import refuse_temporary
from tokenferry.credentials import Credential, OAuthToken
from tokenferry.errors import Conflict, UsageError
from tokenferry.interchange import (
    render_bundle,
    render_claude_code,
    render_environment,
    render_key_file,
    render_profile,
    upsert_ccm,
    upsert_pool,
    without_refresh,
)
from tokenferry.secret import HiddenBytes
from tokenferry.stores import (
    DISK,
    Disk,
    FileLock,
    create_private_file,
    read_private_file,
    remove_leftovers,
    replace_private_file,
)

Target: TypeAlias = Literal["bundle", "claude-code", "pool", "profile", "ccm", "env", "key-file"]

SHARED_TARGETS: Final[tuple[Target, ...]] = ("pool", "ccm")
"""Files of several accounts, in which one is added or updated. Other files are created and never overwritten."""

_PLAIN: Final[tuple[Target, ...]] = ("env", "key-file")
_LOCK_WAIT: Final = 60.0


class Limit(NamedTuple):
    """An account's limit as a pool file records it; `until` in seconds since 1970 UTC."""

    is_limited: bool
    until: int | None = None


def exported(
    target: Target,
    credential: Credential,
    *,
    key: str | None = None,
    with_chain: bool = False,
    present: bytes | None = None,
    limit: Limit | None = None,
) -> bytes:
    """Render the credential in a format, secrets revealed: the access token alone, unless `with_chain`.

    `key` names it in a shared file, or is the variable of `env` (None: the one of Anthropic's programs). `present` is
    the shared file's present content. A `limit` of None preserves what a pool says of limits. Raises `UsageError` if
    the format can't hold the credential.
    """
    if with_chain and (not isinstance(credential, OAuthToken) or credential.refresh is None):
        raise UsageError("it has no refresh token, so there is nothing to hand over; leave --with-refresh-token out")
    if target in _PLAIN:
        if with_chain:
            raise UsageError(
                f"{target} holds one token and no refresh token; leave --with-refresh-token out, or use another format"
            )
        return render_environment(credential, key) if target == "env" else render_key_file(credential)
    if not isinstance(credential, OAuthToken):
        raise UsageError(
            f"{target} holds OAuth logins, and this is of kind {credential.kind}; use {' or '.join(_PLAIN)}"
        )
    token = credential if with_chain else without_refresh(credential)
    if target == "pool":
        is_limited, until = limit or (None, None)
        return upsert_pool(present, token, email=key, rate_limited=is_limited, rate_limit_reset_at=until)
    if target == "ccm":
        return upsert_ccm(present, token, key or "claude-max")
    render = {"bundle": render_bundle, "claude-code": render_claude_code, "profile": render_profile}
    return render[target](token)


def write_export(
    path: Path,
    target: Target,
    credential: Credential,
    *,
    key: str | None,
    with_chain: bool,
    locks: Path,
    limit: Limit | None = None,
    wrap: Callable[[HiddenBytes], bytes] = lambda content: content,
    disk: Disk = DISK,
) -> None:
    """Write the credential to a file of that format, durable and 0600; `wrap` transforms a new file's content.

    Raises `UsageError` if the file exists (for a shared file: if the credential can't be added to it), `UnsafeFile`
    also for a file under the temporary folder, `CorruptFile`, `Conflict`, `StorageFailed`.
    """
    refuse_temporary(path)
    with FileLock(path, locks).held(_LOCK_WAIT):
        remove_leftovers(path, disk=disk)
        if target not in SHARED_TARGETS:
            content = HiddenBytes(exported(target, credential, key=key, with_chain=with_chain))
            create_private_file(path, HiddenBytes(wrap(content)), disk=disk)
            return
        present = _present(path)
        try:
            data = exported(target, credential, key=key, with_chain=with_chain, present=present, limit=limit)
        except UsageError as fault:
            raise UsageError(f"{path} is left as it is: {fault}") from None
        if _present(path) != present:
            raise Conflict(f"{path} was changed by another program; nothing was written; try again")
        replace_private_file(path, data, disk=disk)


def _present(path: Path) -> bytes | None:
    try:
        return read_private_file(path)
    except FileNotFoundError:
        return None
