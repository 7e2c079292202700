"""The accounts in order, by threads that change them while others list them."""

from collections.abc import Callable

import pytest

from tokenferry.accounts import AccountList, Accounts, accounts_from_keys
from tokenferry.broker._listing import WatchedListing
from tokenferry.credentials import ApiKey
from tokenferry.refresh import WarmCredentials
from tokenferry.secret import Secret
from tokenferry.stores import Account, Document, MemoryStore

KEY = ApiKey(Secret("fake-key"))


class Book(Accounts):
    """Calls somebody between the moment that it lists and the one that the listing is had."""

    meanwhile: Callable[[], None] = staticmethod(lambda: None)

    def listing(self, *, known: bool = False) -> AccountList:
        found = super().listing(known=known)
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        return found


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def book(store: MemoryStore) -> Book:
    put(store, "one")
    return Book(store)


@pytest.fixture
def listing(book: Book) -> WatchedListing:
    return WatchedListing(book, WarmCredentials(), dict, 3600)


def put(store: MemoryStore, name: str) -> None:
    store.swap(name, None, Document(Account(name, "anthropic", "api-key"), KEY))


def names(listing: WatchedListing) -> list[str]:
    return [account.name for account in listing.get().accounts]


def test_it_is_one_object_until_an_account_is_changed_here(listing: WatchedListing, store: MemoryStore) -> None:
    first = listing.get()
    put(store, "two")
    assert listing.get() is first
    listing.forget("two")
    assert names(listing) == ["one", "two"]


def test_what_was_listed_while_an_account_was_changed_is_not_kept(
    listing: WatchedListing, book: Book, store: MemoryStore
) -> None:
    def change() -> None:
        put(store, "two")
        listing.forget("two")

    book.meanwhile = change
    assert names(listing) == ["one"]
    assert names(listing) == ["one", "two"]


def test_what_the_watch_listed_while_the_configuration_was_changed_is_not_kept(
    listing: WatchedListing, book: Book, store: MemoryStore
) -> None:
    def configure() -> None:
        book.adopt(accounts_from_keys({"idp": KEY}), {})
        listing.adopt()

    assert names(listing) == ["one"]
    put(store, "two")
    book.meanwhile = configure
    listing.watch._changed(frozenset(("two",)))
    assert sorted(names(listing)) == ["idp", "one", "two"]


def test_a_change_noticed_before_the_first_request_lists_nothing(listing: WatchedListing, book: Book) -> None:
    book.meanwhile = lambda: pytest.fail("it listed")
    listing.watch._changed(frozenset(("one",)))
    book.meanwhile = lambda: None
    assert names(listing) == ["one"]
