"""Which account a login that succeeded becomes, and storing it as that."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tokenferry.accounts import account_for, check_wanted
from tokenferry.credentials import OAuthToken
from tokenferry.errors import UsageError
from tokenferry.stores import Account, Document

if TYPE_CHECKING:
    from tokenferry.broker._broker import Broker

_ROUNDS: Final = 5


@dataclass(frozen=True, slots=True)
class KeptLogin:
    """The account that a login was stored as; `is_known` if it was there and is known to be the same person's."""

    name: str
    token: OAuthToken
    is_known: bool
    has_replaced: bool


def check_login_name(broker: "Broker", name: str, provider: str) -> None:
    """Raise `UsageError` unless a login at the provider could be kept under this name."""
    check_wanted(name, provider, "oauth", _documents(broker), broker.book.store.names())


def keep_login(broker: "Broker", provider: str, token: OAuthToken, wanted: str | None) -> KeptLogin:
    """Store a login; one that can't be stored is ended at its provider, for nobody could use it.

    Raises `UsageError` where the wanted name is another's, and what storing does.
    """
    try:
        for left in reversed(range(_ROUNDS)):
            before = set(broker.book.store.names())
            documents = _documents(broker)
            name, is_known = account_for(token, token.email, provider, wanted, documents)
            check_wanted(name, provider, token.kind, documents, broker.book.store.names())
            account = Account(name, provider, token.kind, created_at=int(time.time()))
            try:
                return KeptLogin(name, token, is_known, broker.add(account, token, replacing=name in documents))
            except UsageError:
                if not left or before == set(broker.book.store.names()):
                    raise
                # another login was stored meanwhile, perhaps this person's: look again whose it is
    except BaseException:
        broker.revoke_token(provider, token)
        raise
    raise AssertionError


def _documents(broker: "Broker") -> Mapping[str, Document]:
    """Every account that can be read, in order."""
    store = broker.book.store
    names = [account.name for account in broker.book.listing().accounts]
    return {name: store.read(name) for name in names if name in store.names()}
