"""Functions with the names and shapes of other tools; docs/coming-from.md lists the tools.

Each is a thin wrapper of the library. `broker` defaults to the process's broker.
"""

import os
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import AbstractContextManager
from hashlib import sha256
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from tokenferry.accounts import write_export
from tokenferry.broker import Broker, PendingLogin, StoredLogin, default_broker, store_login
from tokenferry.claude_code import ClaudeCodeHome, ClaudeCodeStore, claude_code_account, digest
from tokenferry.credentials import SETUP_TOKEN_PREFIX, ApiKey, OAuthToken, SetupToken
from tokenferry.errors import Conflict, CorruptFile, TokenferryError, UnknownAccount, UsageError
from tokenferry.interchange import Entry, parse_bundle, parse_pool, render_bundle
from tokenferry.oauth import OAuthEndpoints
from tokenferry.providers import Provider
from tokenferry.secret import HiddenBytes, Secret
from tokenferry.settings import Home
from tokenferry.stores import Account, Document, FileLock, Lock, held, read_private_file, replace_private_file

__all__ = [
    "LoginStore",
    "authorization_url",
    "base_url",
    "create_api_key",
    "exchange_code",
    "is_subscription",
    "load_bundle",
    "mark_stale",
    "oauth_provider",
    "read_claude_code_credentials",
    "read_pool",
    "resolve_headers",
    "save_bundle",
    "upsert_account",
    "upsert_pool",
    "validate_setup_token",
    "write_claude_code_credentials",
]

_WAIT: Final = 60.0
_CLAUDE_CODE: Final = "claude-code"
_SHOWN: Final = 8


def resolve_headers(name: str | None = None, *, broker: Broker | None = None) -> dict[str, str]:
    """Give the request headers of the account's credential: a Bearer token with its beta, or a key in its header.

    Raises what `Broker.resolve` raises.
    """
    return dict((broker or default_broker()).resolve(name).headers())


def mark_stale(name: str | None = None, *, secret: Secret | None = None, broker: Broker | None = None) -> None:
    """Report that the provider refused the account's token. The next `resolve` refreshes it if it is still the same.

    `secret` is the refused token, by default the present one. Raises what `Broker.resolve` raises.
    """
    broker = broker or default_broker()
    broker.invalidate(name, secret or broker.resolve(name).secret)


def is_subscription(name: str | None = None, *, broker: Broker | None = None) -> bool:
    """Whether the account bills a Claude subscription, so that `[policy] subscriptions` applies.

    Raises `UnknownName`, and what reading the account raises.
    """
    broker = broker or default_broker()
    document = broker.book.read(broker.book.choose(name))
    return broker.bills_subscription(document.account, document.credential)


def base_url(name: str | None = None, *, broker: Broker | None = None) -> str:
    """Give the base URL of the account's provider. Raises `UnknownName`."""
    broker = broker or default_broker()
    return broker.provider_of(broker.book.read(broker.book.choose(name)).account).base_url


def validate_setup_token(text: str) -> SetupToken:
    """Read a setup token, without blanks and line ends from pasting.

    Raises `UsageError`, which names the length of the text.
    """
    value = "".join(text.split())
    try:
        return SetupToken(Secret(value))
    except (UsageError, ValueError):
        hint = "it begins differently" if not value.startswith(SETUP_TOKEN_PREFIX) else "a part is missing"
        raise UsageError(
            f"this is not a setup token: it has {len(value)} characters, and {hint}; a setup token begins with "
            f"{SETUP_TOKEN_PREFIX}; make one with: claude setup-token"
        ) from None


def oauth_provider(
    name: str, base_url: str, *, token_url: str, client_id: str | None = None, key_header: str = "authorization"
) -> Provider:
    """Give a provider whose tokens are refreshed at `token_url`, for `Broker(providers={name: ...})`.

    The equivalent in config.toml is `[[providers]]` with `[providers.oauth] token_endpoint`.
    """
    endpoints = OAuthEndpoints(token_endpoint=token_url, client_id=client_id)
    return Provider(name, name, base_url, auth_type="oauth", key_header=key_header, oauth=endpoints)  # type: ignore[arg-type]  # checked by the class


def authorization_url(provider: str, *, broker: Broker | None = None) -> tuple[str, PendingLogin]:
    """Give the URL at which a person logs in, and the login for `exchange_code`. Raises as `Broker.begin_login`."""
    login = (broker or default_broker()).begin_login(provider)
    return login.url, login


def exchange_code(login: PendingLogin, pasted: str, name: str | None = None) -> StoredLogin:
    """Exchange `CODE#STATE`, or the URL of the last page, and store the login. Raises as `PendingLogin.finish`."""
    return login.finish(pasted, name)


def upsert_account(token: OAuthToken, provider: str, *, broker: Broker | None = None) -> StoredLogin:
    """Store a login. It replaces the person's account at the provider; a new account is named by e-mail address.

    From then on only tokenferry may refresh the login. Raises what `Broker.add` raises; a login that can't be stored is
    revoked.
    """
    return store_login(broker or default_broker(), provider, token, None)


def create_api_key(name: str, key_name: str, *, broker: Broker | None = None) -> ApiKey:
    """Create an API key with the Console login `name`, and store it as the account `key_name`.

    Raises what `Broker.create_api_key` raises.
    """
    return (broker or default_broker()).create_api_key(name, key_name)


def read_claude_code_credentials(folder: Path | None = None) -> OAuthToken:
    """Read Claude Code's own login from the Keychain or its folder, without a lock.

    Raises `NeedsLogin` without a login, `CorruptFile`, `UnsafeFile`, and `TryLater` if the Keychain is locked.
    """
    document = _claude_code(folder, Home.from_environment()).read(_CLAUDE_CODE)
    assert isinstance(document.credential, OAuthToken)
    return document.credential


def write_claude_code_credentials(
    token: OAuthToken,
    *,
    expected: OAuthToken | None,
    folder: Path | None = None,
    broker: Broker | None = None,
) -> None:
    """Replace Claude Code's login under all of its locks, if it is still `expected`; None means "no login".

    Unknown keys stay, and a login with a refresh token is never replaced by one without. Raises `Conflict` if another
    program changed the login, `UsageError` for a login that an account here refreshes (move it with
    `claude-code switch`), `LockTimeout`, `StorageFailed`, `CorruptFile`, `UnsafeFile`.
    """
    broker = broker or default_broker()
    _refuse_second_copy(broker, token)
    store = _claude_code(folder, broker.home or Home.from_environment())
    with store.exclusive(_CLAUDE_CODE, _WAIT):
        where, login = store.look()
        present = login.token
        if (present and digest(present)) != (expected and digest(expected)):
            raise Conflict(f"{where} holds another login than expected; nothing was written; read it again")
        if present is None:
            store.hand_over(None, token, lambda: None)
        else:
            account = claude_code_account(_CLAUDE_CODE, "claude-max", store.home)
            store.swap(_CLAUDE_CODE, login.generation, Document(account, token))


def read_pool(path: Path) -> tuple[Entry, ...]:
    """Read the logins of a pool file; none if it is missing. Raises `UsageError`, `UnsafeFile`."""
    try:
        return parse_pool(read_private_file(path))
    except FileNotFoundError:
        return ()


def upsert_pool(path: Path, token: OAuthToken, *, broker: Broker | None = None) -> None:
    """Add or update a login in a pool file under its e-mail address; unknown keys stay.

    Raises `UsageError` for a login that an account here refreshes (hand it over with `export --with-refresh-token`),
    `UnsafeFile`, `Conflict` if another program changed the file, `StorageFailed`.
    """
    broker = broker or default_broker()
    _refuse_second_copy(broker, token)
    locks = (broker.home or Home.from_environment()).locks
    write_export(path, "pool", token, key=token.email, with_chain=True, locks=locks)


def load_bundle(path: Path) -> OAuthToken:
    """Read the login in a bundle file. Raises `FileNotFoundError`, `UnsafeFile`, `CorruptFile`."""
    try:
        (entry,) = parse_bundle(read_private_file(path))
    except UsageError as fault:
        raise CorruptFile(f"{path} holds no login: {fault}") from None
    if entry.fault or not isinstance(entry.credential, OAuthToken):
        raise CorruptFile(f"{path} holds no login: {entry.fault or 'its content is another kind of credential'}")
    return entry.credential


def save_bundle(path: Path, token: OAuthToken, *, expected: OAuthToken | None, broker: Broker | None = None) -> None:
    """Replace a bundle file durably, with mode 0600, if it still holds `expected`; None means "no file".

    Unknown keys stay. Raises `Conflict`, `UsageError` for a login without the refresh token that the file has, or one
    that an account here refreshes, `UnsafeFile`, `CorruptFile`, `StorageFailed`.
    """
    broker = broker or default_broker()
    _refuse_second_copy(broker, token)
    with FileLock(path, (broker.home or Home.from_environment()).locks).held(_WAIT):
        try:
            present = load_bundle(path)
        except FileNotFoundError:
            present = None
        if (present and digest(present)) != (expected and digest(expected)):
            raise Conflict(f"{path} holds another login than expected; nothing was written; load it again")
        if present is not None:
            if present.refresh is not None and token.refresh is None:
                raise UsageError(f"{path} holds a refresh token, and the new login has none; nothing was written")
            token = replace(token, unknown=type(token.unknown)(present.unknown, **token.unknown))
        replace_private_file(path, HiddenBytes(render_bundle(token)))


class LoginStore:
    """A `Store` of one login on top of a program's own functions, for `Broker(store=..., journal=...)`.

    `load` gives a bundle as JSON, or None; it is called twice a second while the broker is used. `save` replaces it
    durably. The lock holds only on this machine, so no other machine may refresh the same login.
    """

    def __init__(
        self,
        account: Account,
        load: Callable[[], bytes | None],
        save: Callable[[bytes], object],
        *,
        locks: Path | None = None,
    ) -> None:
        self._account = account
        self._load = load
        self._save = save
        self._locks = locks or Home.from_environment().locks

    def names(self) -> list[str]:
        return [self._account.name] if self._load() is not None else []

    def read(self, name: str) -> Document:
        """Raises `UnknownAccount`, `CorruptFile`."""
        raw = self._load() if name == self._account.name else None
        if raw is None:
            raise UnknownAccount(f"there is no account {name!r} in this store")
        try:
            (entry,) = parse_bundle(HiddenBytes(raw))
        except UsageError as fault:
            raise CorruptFile(f"the store's login can't be understood: {fault}") from None
        if entry.fault or entry.credential is None:
            raise CorruptFile(f"the store's login can't be understood: {entry.fault}")
        return Document(self._account, entry.credential, _generation(raw))

    def swap(self, name: str, expected: int | None, new: Document | None) -> None:
        """Raises `Conflict`; `UsageError` for a removal, and for any other credential than a login."""
        present = self._load()
        if (None if present is None else _generation(present)) != expected:
            raise Conflict(f"the store of account {name!r} was changed by another program; nothing was written")
        if new is None or not isinstance(new.credential, OAuthToken):
            raise UsageError("this store holds one login, which can only be replaced by another")
        self._save(render_bundle(new.credential))

    def discard(self, name: str) -> None:
        """Raises `UsageError`: only the program may remove the login."""
        raise UsageError(f"account {name!r} is in a program's own store; remove it there")

    def lock(self, name: str) -> Lock:
        return FileLock(self._locks / f"{name}.login-store", self._locks)

    def exclusive(self, name: str, timeout: float) -> AbstractContextManager[None]:
        return held(self.lock(name), timeout)

    def stamps(self) -> Mapping[str, Hashable]:
        raw = self._load()
        return {} if raw is None else {self._account.name: _generation(raw)}


def _generation(raw: bytes) -> int:
    return int(sha256(raw).hexdigest()[:12], 16)


def _claude_code(folder: Path | None, home: Home) -> ClaudeCodeStore:
    claude = ClaudeCodeHome(folder) if folder else ClaudeCodeHome.from_environment(os.environ, Path.home())
    account = claude_code_account(_CLAUDE_CODE, "claude-max", claude)
    return ClaudeCodeStore.on_this_platform(account, claude, home.locks, user=os.environ.get("USER", ""))


def _refuse_second_copy(broker: Broker, token: OAuthToken) -> None:
    """Raise `UsageError` for a login that an account here refreshes, since the server revokes two copies."""
    theirs = {secret.sha256 for secret in (token.secret, token.refresh) if secret is not None}
    for account, found in _own_logins(broker):
        if theirs & {secret.sha256 for secret in (found.secret, found.refresh) if secret is not None}:
            raise UsageError(
                f"this login is account {account.name!r}, which tokenferry refreshes; a second copy would log both "
                f"out; hand it over with: tokenferry export {account.name} --to bundle FILE --with-refresh-token; or "
                f"to Claude Code with: tokenferry claude-code switch {account.name}"
            )


def _own_logins(broker: Broker) -> Iterator[tuple[Account, OAuthToken]]:
    for account in broker.book.listing().accounts:
        if account.owner != "tokenferry":
            continue
        try:
            credential = broker.book.read(account.name).credential
        except TokenferryError:
            continue
        if isinstance(credential, OAuthToken):
            yield account, credential
