"""Stores a successful login as an account."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from tokenferry.accounts import account_for, check_wanted, identity_labels
from tokenferry.credentials import Credential, Kind, OAuthToken
from tokenferry.errors import UsageError
from tokenferry.stores import Account, Document

if TYPE_CHECKING:
    from tokenferry.broker._broker import Broker

_ROUNDS: Final = 5


class StoredLogin(Struct, frozen=True):
    """The account that a login was stored as; `is_known` if it existed and is known to be the same person's."""

    name: str
    token: OAuthToken
    credential: Credential
    """What was stored: the login, or the credential made with it."""
    is_known: bool
    has_replaced: bool


def check_login_name(broker: "Broker", name: str, provider: str, kind: Kind = "oauth") -> None:
    """Raise `UsageError` unless a login at the provider can be stored under this name."""
    if kind == "oauth" and (known := broker.providers.get(provider)) is not None:
        kind = known.login_kind
    check_wanted(name, provider, kind, _documents(broker), broker.book.store.names())


def store_login(
    broker: "Broker",
    provider: str,
    token: OAuthToken,
    wanted: str | None,
    kind: Kind = "oauth",
    *,
    make: Callable[[], Credential] | None = None,
) -> StoredLogin:
    """Store a login, or the credential of this `kind` that `make` makes of it, as an account.

    A login that can't be stored is revoked at its provider, since no program could use it, unless an account has the
    same one: some providers return one refresh token again. Raises `UsageError` if the wanted name is taken, and what
    making and storing raise.
    """
    if kind == "oauth" and (known := broker.providers.get(provider)) is not None:
        kind, make = known.login_kind, partial(broker.exchanged, known, token)
    labels = MappingProxyType({} if kind in {"oauth", "exchanged"} else identity_labels(token))
    credential: Credential | None = None if make is not None else token
    is_held = False
    try:
        is_held = bool(broker.book.holders(token))
        for left in reversed(range(_ROUNDS)):
            before = set(broker.book.store.names())
            documents = _documents(broker)
            name, is_known = account_for(token, token.email, provider, wanted, documents, kind=kind)
            check_wanted(name, provider, kind, documents, broker.book.store.names())
            if credential is None:
                assert make is not None
                credential = make()
            account = Account(name, provider, kind, labels=labels, created_at=int(time.time()))
            try:
                has_replaced = broker.add(account, credential, replacing=name in documents)
            except UsageError:
                if not left or before == set(broker.book.store.names()):
                    raise
                # another login was stored, perhaps this person's: decide again
            else:
                return StoredLogin(name, token, credential, is_known, has_replaced)
    except BaseException:
        if not is_held:
            broker.revoke_token(provider, token)
        raise
    raise AssertionError


def _documents(broker: "Broker") -> Mapping[str, Document]:
    """Return every readable account, in order."""
    store = broker.book.store
    names = [account.name for account in broker.book.listing().accounts]
    return {name: store.read(name) for name in names if name in store.names()}
