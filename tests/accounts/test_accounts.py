import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from msgspec.structs import replace

from leaks import leaks
from tokenferry.accounts import CONFIGURATION, ENVIRONMENT, AccountChanges, Accounts
from tokenferry.credentials import ApiKey, OAuthToken
from tokenferry.errors import (
    CorruptFile,
    StorageFailed,
    UnknownAccount,
    UnsafeFile,
    UsageError,
)
from tokenferry.secret import Fields, Secret
from tokenferry.settings import AccountSettings, Home
from tokenferry.stores import Account, Document, FileStore, MemoryStore

KEY = "sk-ant-api03-ooT9ohgh3ooGhieXaiph7ahC6Shai"


def account(name: str, **details: Any) -> Account:
    return Account(name, "anthropic", "api-key", **details)


def implicit(name: str, store: str = ENVIRONMENT, **details: Any) -> dict[str, Document]:
    return {name: Document(account(name, owner="external", store=store, **details), ApiKey(Secret("sk-implicit")))}


@pytest.fixture
def store(home: Home) -> FileStore:
    return FileStore(home)


@pytest.fixture
def book(store: FileStore, home: Home) -> Accounts:
    return Accounts(store, active=home.active)


Add = Callable[..., bool]


@pytest.fixture
def add(book: Accounts) -> Add:
    def add(name: str, **details: Any) -> bool:
        return book.add(account(name, **details), ApiKey(Secret(KEY)), machine="here")

    return add


def corrupt(store: FileStore, name: str) -> Path:
    path = store.path(name)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_bytes(b"{" + KEY.encode())
    path.chmod(0o600)
    return path


# -- choosing


def test_the_one_named_comes_before_the_variable_before_the_one_in_use_before_the_only_one(
    book: Accounts, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    add("only")
    assert book.choose(None) == "only"
    add("used")
    book.use("used")
    assert book.choose(None) == "used"
    monkeypatch.setenv("TOKENFERRY_ACCOUNT", "variable")
    assert book.choose(None) == "variable"
    assert book.choose("named") == "named"
    monkeypatch.setenv("TOKENFERRY_ACCOUNT", "")
    assert book.choose("") == "used"


def test_no_account_at_all_is_reported_with_the_command_that_adds_one(book: Accounts) -> None:
    with pytest.raises(UnknownAccount, match="there is no account yet; add one with: tokenferry account add NAME"):
        book.choose(None)


def test_several_are_listed_with_the_command_that_picks_one(book: Accounts, add: Add, store: FileStore) -> None:
    add("work", priority=1)
    add("home", priority=2)
    corrupt(store, "broken")
    with pytest.raises(UnknownAccount) as caught:
        book.choose(None)
    assert str(caught.value) == (
        "there are several accounts: broken, home, work; name one, or pick one with: tokenferry use NAME"
    )


def test_the_environment_counts_only_while_nothing_else_is_there(store: FileStore, add: Add) -> None:
    documents = implicit("ANTHROPIC_API_KEY", priority=1000) | implicit("ANTHROPIC_AUTH_TOKEN", priority=1000)
    book = Accounts(store, implicit=documents)
    assert book.choose(None) == "ANTHROPIC_API_KEY"
    add("work")
    assert book.choose(None) == "work"
    assert book.choose("ANTHROPIC_API_KEY") == "ANTHROPIC_API_KEY"
    assert book.read("ANTHROPIC_API_KEY").credential == ApiKey(Secret("sk-implicit"))


def test_an_account_that_can_not_be_read_is_not_passed_over_for_the_environment(store: FileStore) -> None:
    """Its owner is told what is wrong with it, and not billed elsewhere."""
    corrupt(store, "work")
    book = Accounts(store, implicit=implicit("ANTHROPIC_API_KEY"))
    assert book.choose(None) == "work"
    with pytest.raises(CorruptFile):
        book.read("work")


def test_an_account_of_the_configuration_counts_like_a_stored_one(store: FileStore, add: Add) -> None:
    book = Accounts(store, implicit=implicit("mine", CONFIGURATION) | implicit("ANTHROPIC_API_KEY"))
    assert book.choose(None) == "mine"
    add("work")
    with pytest.raises(UnknownAccount, match="mine, work"):
        book.choose(None)


# -- the one in use


def test_the_one_in_use_is_kept_privately(book: Accounts, add: Add, home: Home) -> None:
    assert book.active() is None
    add("work")
    book.use("work")
    assert book.active() == "work"
    assert home.active.read_bytes() == b"work\n"
    assert home.active.stat().st_mode & 0o7777 == 0o600


def test_only_an_account_that_is_there_can_be_used(book: Accounts, store: FileStore, home: Home) -> None:
    with pytest.raises(UnknownAccount):
        book.use("work")
    corrupt(store, "work")
    with pytest.raises(CorruptFile):
        book.use("work")
    with pytest.raises(UsageError):
        book.use("../work")
    assert not home.active.exists()


@pytest.mark.parametrize("content", [b"", b"\n", b"  \n"])
def test_an_empty_note_of_the_one_in_use_is_none(book: Accounts, home: Home, content: bytes) -> None:
    home.active.write_bytes(content)
    home.active.chmod(0o600)
    assert book.active() is None


def test_an_unsafe_or_odd_note_of_the_one_in_use_is_reported(book: Accounts, home: Home) -> None:
    home.active.write_bytes(b"work\n")
    home.active.chmod(0o666)
    with pytest.raises(UnsafeFile, match="chmod 0600"):
        book.choose(None)
    home.active.chmod(0o600)
    home.active.write_bytes(b"../\xff")
    with pytest.raises(UsageError):
        book.read(book.choose(None))
    home.active.write_bytes(b"x" * 2000)
    with pytest.raises(UnsafeFile, match="larger than 1024 bytes"):
        book.choose(None)


def test_a_book_without_a_home_has_none_in_use() -> None:
    assert Accounts(MemoryStore()).active() is None


# -- listing


def test_accounts_are_listed_by_priority_then_creation_then_name(book: Accounts, add: Add) -> None:
    add("late", priority=1, created_at=9)
    add("b", created_at=5)
    add("a", created_at=5)
    add("early", created_at=2)
    listing = book.listing()
    assert [one.name for one in listing.accounts] == ["late", "early", "a", "b"]
    assert not listing.broken


def test_broken_accounts_are_listed_with_their_reason_and_hide_no_other(
    book: Accounts, add: Add, store: FileStore, home: Home
) -> None:
    add("good")
    add("open")
    store.path("open").chmod(0o644)
    corrupt(store, "corrupt")
    store.path("link").symlink_to(store.path("good"))
    store.path("folder").mkdir()
    (home.accounts / "bad name.json").write_bytes(b"{}")
    listing = book.listing()
    assert [one.name for one in listing.accounts] == ["good"]
    assert {name: type(fault) for name, fault in listing.broken.items()} == {
        "open": UnsafeFile,
        "corrupt": CorruptFile,
        "link": UnsafeFile,
        "folder": UnsafeFile,
        "bad name": UsageError,
    }
    for fault in listing.broken.values():
        assert not leaks(fault, KEY)


def test_an_account_that_goes_while_it_is_listed_is_not_listed(book: Accounts, add: Add, store: FileStore) -> None:
    add("work")
    add("gone")

    class Racing(FileStore):
        def names(self) -> list[str]:
            names = super().names()
            store.path("gone").unlink(missing_ok=True)
            return names

    listing = Accounts(Racing(store._home)).listing()
    assert [one.name for one in listing.accounts] == ["work"]
    assert not listing.broken


def test_an_implicit_account_is_listed_unless_a_stored_one_has_its_name(store: FileStore, add: Add) -> None:
    named = ("work", "broken", "other")
    book = Accounts(store, implicit={key: one for name in named for key, one in implicit(name, CONFIGURATION).items()})
    add("work")
    corrupt(store, "broken")
    assert [one.store for one in book.listing().accounts if one.name == "work"] == ["file"]
    assert book.read("work").credential == ApiKey(Secret(KEY))
    assert "broken" in book.listing().broken
    assert {one.name for one in book.listing().accounts} == {"work", "other"}
    with pytest.raises(CorruptFile):
        book.read("broken")


def test_an_account_of_the_environment_counts_only_while_no_other_is_there(store: FileStore, add: Add) -> None:
    book = Accounts(store, implicit=implicit("ANTHROPIC_API_KEY"))
    assert [one.name for one in book.listing().accounts] == ["ANTHROPIC_API_KEY"]
    add("work")
    assert [one.name for one in book.listing().accounts] == ["work"]
    assert book.read("ANTHROPIC_API_KEY").account.store == ENVIRONMENT


def test_an_unlistable_folder_is_reported(book: Accounts, home: Home) -> None:
    home.accounts.touch(0o600)
    with pytest.raises(StorageFailed, match=re.escape(f"the folder {home.accounts} can't be listed")):
        book.listing()


# -- adding


def test_a_new_account_is_stored_as_it_is(book: Accounts, store: FileStore) -> None:
    new = account("work", labels=MappingProxyType({"team": "a"}), priority=3, created_at=7)
    assert book.add(new, ApiKey(Secret(KEY)), machine="here") is False
    assert store.read("work") == Document(new, ApiKey(Secret(KEY)), generation=1, machine="here")


def test_a_taken_name_is_refused_unless_replacing(book: Accounts, add: Add, store: FileStore) -> None:
    add("work")
    before = store.read("work")
    with pytest.raises(UsageError, match="exists already; give --replace"):
        add("work")
    assert store.read("work") == before


def test_no_two_accounts_have_one_login_but_two_may_have_one_key(book: Accounts, store: FileStore, add: Add) -> None:
    def store_login(name: str, refresh: str, origin: Fields | None = None) -> bool:
        login = OAuthToken(Secret(f"access-of-{name}"), Secret(refresh))
        return book.add(Account(name, "console", "oauth"), login, machine="here", replacing=True, origin=origin)

    store_login("one", "fake-refresh", Fields(refresh=Secret("fake-imported").sha256))
    for known in ("fake-refresh", "fake-imported"):
        with pytest.raises(UsageError, match=r"^account 'one' has this login already, .* login two --provider console"):
            store_login("two", known)
    assert store.names() == ["one"]
    assert store_login("one", "fake-refresh")
    assert not store_login("two", "fake-other")
    add("key")
    add("same-key")


def test_replacing_keeps_labels_priority_creation_and_what_is_unknown(book: Accounts, store: FileStore) -> None:
    old = Document(
        account("work", labels=MappingProxyType({"team": "a"}), priority=3, created_at=7),
        ApiKey(Secret(KEY)),
        machine="there",
        unknown=Fields(later=[1]),
    )
    store.swap("work", None, old)
    new = Account("work", "console", "oauth", owner="tokenferry", created_at=99, priority=50)
    token = OAuthToken(Secret("access"), Secret("refresh"))
    assert book.add(new, token, machine="here", replacing=True) is True
    found = store.read("work")
    assert found.credential == token
    assert found.account == replace(new, labels=old.account.labels, priority=3, created_at=7)
    assert (found.generation, found.machine, found.unknown) == (2, "here", {"later": [1]})


def test_replacing_what_is_not_there_adds_it(book: Accounts, store: FileStore) -> None:
    assert book.add(account("work"), ApiKey(Secret(KEY)), machine=None, replacing=True) is False
    assert store.names() == ["work"]


def test_a_corrupt_document_is_not_replaced(book: Accounts, store: FileStore) -> None:
    path = corrupt(store, "work")
    before = path.read_bytes()
    with pytest.raises(CorruptFile):
        book.add(account("work"), ApiKey(Secret(KEY)), machine=None, replacing=True)
    assert path.read_bytes() == before


@pytest.mark.parametrize("twin", ["WORK", "Work", "worK"])
def test_names_differ_in_more_than_case(book: Accounts, add: Add, store: FileStore, twin: str) -> None:
    add("work")
    for replacing in (False, True):
        with pytest.raises(UsageError, match=f"account 'work' exists, and '{twin}' differs in case alone"):
            book.add(account(twin), ApiKey(Secret(KEY)), machine=None, replacing=replacing)
    assert store.names() == ["work"]


@pytest.mark.parametrize("name", ["", "..", ".work", "a/b", "a\n", "x" * 65])
def test_a_bad_name_is_refused(book: Accounts, home: Home, name: str) -> None:
    with pytest.raises(UsageError, match="can't be an account's name"):
        book.add(account(name), ApiKey(Secret(KEY)), machine=None)
    assert not home.accounts.exists()


# -- removing


def test_a_removed_account_is_gone_and_no_longer_in_use(book: Accounts, add: Add, home: Home) -> None:
    add("work")
    add("home")
    book.use("work")
    book.remove("home")
    assert book.active() == "work"
    book.remove("work")
    assert book.active() is None
    assert os.listdir(home.accounts) == []  # noqa: PTH208  # nothing at all is left
    with pytest.raises(UnknownAccount):
        book.remove("work")


def test_an_account_that_can_not_be_read_can_be_removed(book: Accounts, add: Add, store: FileStore) -> None:
    corrupt(store, "corrupt")
    add("open")
    store.path("open").chmod(0o666)
    add("good")
    store.path("link").symlink_to(store.path("good"))
    for name in ("corrupt", "open", "link"):
        book.remove(name)
    assert store.names() == ["good"]
    assert store.read("good").credential == ApiKey(Secret(KEY))


def test_what_is_no_file_is_left_for_a_person_to_move(book: Accounts, store: FileStore, home: Home) -> None:
    home.accounts.mkdir(mode=0o700)
    store.path("folder").mkdir()
    with pytest.raises(StorageFailed, match=r"folder\.json could not be removed: Is a directory"):
        book.remove("folder")


@pytest.mark.parametrize("where", [ENVIRONMENT, CONFIGURATION])
def test_an_implicit_account_is_removed_where_it_comes_from(store: FileStore, where: str) -> None:
    book = Accounts(store, implicit=implicit("mine", where))
    with pytest.raises(UsageError, match=f"comes from the {where}; remove it there"):
        book.remove("mine")


def test_removing_a_stored_account_uncovers_an_implicit_one(store: FileStore, add: Add) -> None:
    book = Accounts(store, implicit=implicit("work", CONFIGURATION))
    add("work")
    book.remove("work")
    assert book.read("work").account.store == CONFIGURATION


# -- copies


def test_confirming_changes_the_machine_alone(book: Accounts, add: Add, store: FileStore) -> None:
    add("work")
    before = store.read("work")
    book.confirm("work", "there")
    assert store.read("work") == replace(before, machine="there", generation=2)
    with pytest.raises(UnknownAccount):
        book.confirm("home", "there")


# -- overrides


def test_the_configuration_goes_before_the_store_and_leaves_it_as_it_is(book: Accounts, add: Add) -> None:
    for name in ("one", "two", "three"):
        add(name, created_at=1)
    stored = book.listing().accounts
    book.adopt({}, {"two": AccountSettings(priority=5), "three": AccountSettings(paused=True)})
    listing = book.listing()
    assert [one.name for one in listing.accounts] == ["two", "one", "three"]
    assert [(one.priority, one.paused) for one in listing.accounts] == [(5, False), (100, False), (100, True)]
    assert book.read("two").account.priority == 100
    book.adopt({}, {})
    assert book.relisted(listing).accounts == stored


def test_a_pause_is_over_at_its_end_and_the_document_stays(book: Accounts, add: Add) -> None:
    add("one")
    end = int(time.time()) + 3600
    assert book.amend("one", AccountChanges(paused=True, paused_until=end)).paused_until == end
    account = book.read("one").account
    assert book.effective(account) == account
    ended = replace(account, paused_until=int(time.time()))
    assert (book.effective(ended).paused, book.effective(ended).paused_until) == (False, None)
    book.adopt({}, {"one": AccountSettings(paused=True)})
    assert (book.effective(ended).paused, book.effective(account).paused_until) == (True, None)
    assert book.amend("one", AccountChanges(priority=5)).paused_until == end, "another change leaves it"
    assert book.amend("one", AccountChanges(paused=True)).paused_until is None


@pytest.mark.parametrize("changes", [{"paused_until": 4_000_000_000}, {"paused": True, "paused_until": 1}])
def test_only_a_pause_has_an_end_and_that_lies_ahead(book: Accounts, add: Add, changes: dict[str, Any]) -> None:
    add("one")
    with pytest.raises(UsageError, match="only a pause has an end"):
        book.amend("one", AccountChanges(**changes))
