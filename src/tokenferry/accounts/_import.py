from collections.abc import Iterable, Iterator, Mapping

from msgspec.structs import replace

from tokenferry.accounts._accounts import Accounts
from tokenferry.accounts._offer import Found, Holdings, Offer, judge
from tokenferry.errors import Conflict, NeedsUnlock, TokenferryError, UsageError
from tokenferry.providers import Provider
from tokenferry.stores import Document, check_account_name


def make_offers(
    found: Iterable[Found],
    accounts: Accounts,
    providers: Mapping[str, Provider],
    now: float,
    *,
    name: str | None = None,
    provider: str | None = None,
    attached: Iterable[Found] = (),
) -> list[Offer]:
    """Turn everything found into offers; `now` in seconds since 1970 UTC.

    `name` is for the only importable one, `provider` for all. `attached` are logins that are used in place; a copy of
    one is not importable. Raises `UsageError` for a name that is taken, or given for several.
    """
    taken = {one.casefold() for one in accounts.store.names()}
    if name is not None and check_account_name(name).casefold() in taken:
        raise UsageError(f"account {name!r} exists already; use another name, or remove it first")
    holdings = Holdings(_documents(accounts))
    for other in attached:
        if other.is_unread and other.entry.provider:
            holdings.note_unread(other.entry.provider)
        if other.entry.credential is not None:
            holdings.note(other.entry.credential, f"{other.where}, which is attached instead of copied")
    offers = [judge(_of(one, provider), holdings, providers, taken, now) for one in found]
    if name is None:
        return offers
    usable = [offer for offer in offers if offer.account is not None]
    if len(usable) > 1:
        raise UsageError(f"{name!r} can name one login, and there are {len(usable)} to import; leave --name out")
    return [replace(offer, account=offer.account and replace(offer.account, name=name)) for offer in offers]


def check_again(offer: Offer, offers: Iterable[Offer]) -> Offer:
    """Return the same offer from a second look. Raises `Conflict` if its source has changed since."""
    for other in offers:
        if (other.source, other.where, other.key) != (offer.source, offer.where, offer.key):
            continue
        if (other.action, other.credential) != (offer.action, offer.credential) or other.account is None:
            break
        return replace(other, account=offer.account)
    raise Conflict(f"{offer.where} was changed since it was looked at; nothing was imported; run it again")


def _of(found: Found, provider: str | None) -> Found:
    if provider is None:
        return found
    account = found.account and replace(found.account, provider=provider)
    return replace(found, entry=replace(found.entry, provider=provider), account=account)


def _documents(accounts: Accounts) -> Iterator[Document]:
    for name in accounts.store.names():
        try:
            yield accounts.store.read(name)
        except NeedsUnlock:
            raise  # it may be the offered login
        except TokenferryError:
            continue
