from collections.abc import Iterable, Iterator, Mapping

from msgspec.structs import replace

from tokenferry.accounts._accounts import Accounts
from tokenferry.accounts._offer import Found, Holdings, Offer, judge
from tokenferry.errors import Conflict, NeedsUnlock, TokenferryError, UsageError
from tokenferry.providers import Provider
from tokenferry.stores import Document, check_account_name


def make_offers(
    found: Iterable[Found],
    book: Accounts,
    providers: Mapping[str, Provider],
    now: float,
    *,
    name: str | None = None,
    provider: str | None = None,
    beside: Iterable[Found] = (),
) -> list[Offer]:
    """Say of everything found what taking it in would mean; `now` in seconds since 1970 UTC.

    `name` is for the one that can be imported, `provider` for all. `beside` are logins that are used where they are:
    a copy of one of those is offered as nothing. Raises `UsageError` for a name that is taken, or meant for several.
    """
    taken = {one.casefold() for one in book.store.names()}
    if name is not None and check_account_name(name).casefold() in taken:
        raise UsageError(f"account {name!r} exists already; use another name, or remove it first")
    holdings = Holdings(_documents(book))
    for other in beside:
        if other.is_unread and other.entry.provider:
            holdings.note_unread(other.entry.provider)
        if other.entry.credential is not None:
            holdings.note(other.entry.credential, f"{other.where}, which is attached instead of copied")
    offers = [judge(_of(one, provider), holdings, providers, taken, now) for one in found]
    if name is None:
        return offers
    usable = [offer for offer in offers if offer.account is not None]
    if len(usable) > 1:
        raise UsageError(f"there are {len(usable)} logins to import, and {name!r} can name one; leave --name out")
    return [replace(offer, account=offer.account and replace(offer.account, name=name)) for offer in offers]


def check_again(offer: Offer, offers: Iterable[Offer]) -> Offer:
    """The same offer as it stands now. Raises `Conflict` if what it was made of has changed since."""
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


def _documents(book: Accounts) -> Iterator[Document]:
    for name in book.store.names():
        try:
            yield book.store.read(name)
        except NeedsUnlock:
            raise  # what can't be seen now may be the login that is offered
        except TokenferryError:
            continue
