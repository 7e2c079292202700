import shlex
import tempfile
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tokenferry.accounts import Accounts, Target, completion, hand_over, pending_hand_over, take_back
from tokenferry.credentials import ApiKey, OAuthToken
from tokenferry.errors import ChainCopied, StorageFailed, TryLater, UnknownAccount, UsageError
from tokenferry.interchange import parse
from tokenferry.refresh import FileJournal, Journal, RefreshAttempt
from tokenferry.secret import Fields, Secret
from tokenferry.settings import Home
from tokenferry.stores import Account, Disk, FileStore, ProcessIdentity

NOW = 1_800_000_000.0
REFRESH = Secret("sk-ant-ort01-" + "Rr1" * 30)
TOKEN = OAuthToken(Secret("sk-ant-oat01-" + "Aa1" * 30), REFRESH, expires_at=1_800_003_600, email="me@mail.example")
CHAIN_TARGETS: tuple[Target, ...] = ("bundle", "claude-code", "pool", "profile", "ccm")


class Killed(BaseException):
    """The process is gone."""


class Mortal(Disk):
    """A disk under a process that is killed just before its step of that number."""

    def __init__(self, last: int = 10**6) -> None:
        self.count = 0
        self._last = last

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name.startswith("_") or name == "count":
            return value
        self.count += 1
        if self.count >= self._last:
            raise Killed
        return value


@pytest.fixture(autouse=True)
def _temporary_folder_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))


@pytest.fixture
def book(home: Home) -> Accounts:
    book = Accounts(FileStore(home))
    account = Account("work", "sandbox", "oauth", created_at=1)
    book.add(account, TOKEN, machine="m", origin=Fields(kept=True))
    return book


@pytest.fixture
def target_file(tmp_path: Path) -> Path:
    return tmp_path / "person" / "login.json"


def give(
    book: Accounts,
    home: Home,
    path: Path,
    target: Target = "bundle",
    *,
    journal: Journal | None = None,
    machine: str = "m",
    disk: Disk | None = None,
) -> None:
    hand_over(
        book,
        journal or FileJournal(home.journal),
        "work",
        target=target,
        path=path,
        key=None,
        locks=home.locks,
        machine=machine,
        now=NOW,
        disk=disk or Disk(),
    )
    book.remove("work")


def ours_may_renew(book: Accounts) -> bool:
    """Whether a process here would present the refresh token."""
    try:
        return book.read("work").account.owner == "tokenferry"
    except UnknownAccount:
        return False


def theirs(path: Path, target: Target) -> bool:
    """Whether the other program has the login."""
    try:
        entries = parse(path.read_bytes(), target)
    except FileNotFoundError:
        return False
    return any(getattr(entry.credential, "refresh", None) == REFRESH for entry in entries)


@pytest.mark.parametrize("target", CHAIN_TARGETS)
def test_the_login_is_in_the_file_and_gone_here(book: Accounts, home: Home, target_file: Path, target: Target) -> None:
    give(book, home, target_file, target)
    assert theirs(target_file, target)
    assert book.store.names() == []


@pytest.mark.parametrize("target", ["bundle", "pool"])
def test_killed_at_any_step_exactly_one_side_renews_it_and_the_same_call_completes_it(
    home: Home, tmp_path: Path, target: Target
) -> None:
    count = Mortal()
    whole = Home(tmp_path / "whole")
    Accounts(FileStore(whole)).add(Account("work", "sandbox", "oauth", created_at=1), TOKEN, machine="m")
    give(Accounts(FileStore(whole, disk=count)), whole, tmp_path / "person" / "whole.json", target, disk=count)
    sides = []
    for last in range(1, count.count + 1):
        own = Home(tmp_path / f"home-{last}")
        path = tmp_path / "person" / f"{last}.json"
        survivor = Accounts(FileStore(own))
        survivor.add(Account("work", "sandbox", "oauth", created_at=1), TOKEN, machine="m")
        mortal = Mortal(last)
        with pytest.raises(Killed):
            give(Accounts(FileStore(own, disk=mortal)), own, path, target, disk=mortal)
        sides.append((ours_may_renew(survivor), theirs(path, target)))
        if "work" in survivor.store.names():
            assert survivor.read("work").credential == TOKEN  # nothing is lost
            begun = pending_hand_over(survivor.read("work"))
            assert (begun is None) == ours_may_renew(survivor)
            if begun is not None:
                assert begun.has_arrived() == theirs(path, target)
            give(survivor, own, path, target)
        assert theirs(path, target)
        assert survivor.store.names() == []
        assert [one.name for one in path.parent.iterdir() if one.name.startswith(f".{path.name}.tmp.")] == []
    assert (True, True) not in sides
    assert set(sides) == {(True, False), (False, False), (False, True)}


def test_a_hand_over_that_was_cut_short_can_be_taken_back(book: Accounts, home: Home, target_file: Path) -> None:
    before = book.read("work")
    with pytest.raises(UsageError, match="nothing to take back"):
        take_back(book, "work")
    with pytest.raises(Killed):
        give(book, home, target_file, disk=Mortal(3))
    assert not ours_may_renew(book)
    take_back(book, "work")
    after = book.read("work")
    assert replace(after, generation=before.generation) == before


def test_what_has_arrived_is_not_taken_back_but_completed(book: Accounts, home: Home, target_file: Path) -> None:
    last = 2
    while not theirs(target_file, "bundle"):
        with pytest.raises(Killed):
            give(book, home, target_file, disk=Mortal(last))
        last += 1
    with pytest.raises(
        UsageError, match=r"complete it with: tokenferry export work --to bundle --with-refresh-token .*login"
    ):
        take_back(book, "work")
    give(book, home, target_file)
    assert book.store.names() == []


def test_a_hand_over_that_was_begun_goes_nowhere_else(book: Accounts, home: Home, target_file: Path) -> None:
    with pytest.raises(Killed):
        give(book, home, target_file, disk=Mortal(3))
    begun = pending_hand_over(book.read("work"))
    assert begun is not None
    assert completion("work", begun) == f"tokenferry export work --to bundle --with-refresh-token {target_file}"
    spaced = replace(begun, path=Path("/it's here"), key="a b")
    assert shlex.split(completion("work", spaced))[-3:] == ["--key", "a b", "/it's here"]
    with pytest.raises(UsageError, match="was begun; complete it with"):
        give(book, home, target_file.with_name("other.json"))
    assert not target_file.with_name("other.json").exists()


def test_a_login_that_came_later_is_none_that_was_handed_over(book: Accounts, home: Home, target_file: Path) -> None:
    """The file holds the old one, and completing that hand-over would remove the account with the new one."""
    last = 2
    while not theirs(target_file, "bundle"):
        with pytest.raises(Killed):
            give(book, home, target_file, disk=Mortal(last))
        last += 1
    new = replace(TOKEN, secret=Secret("new-access"), refresh=Secret("new-refresh"))
    book.add(Account("work", "sandbox", "oauth"), new, machine="m", replacing=True)
    assert pending_hand_over(book.read("work")) is None
    with pytest.raises(UsageError, match="is not written over"):
        give(book, home, target_file)
    document = book.read("work")
    assert (document.credential, document.account.owner) == (new, "tokenferry")
    with pytest.raises(UsageError, match="nothing to take back"):
        take_back(book, "work")


def test_what_can_t_be_written_stays_ours(book: Accounts, home: Home, target_file: Path) -> None:
    before = book.read("work")

    class Full(Disk):
        def fsync(self, descriptor: int) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(StorageFailed, match="No space left"):
        give(book, home, target_file, disk=Full())
    target_file.write_text("something of somebody's")  # which may be read by others
    with pytest.raises(UsageError, match="is not written over"):
        give(book, home, target_file)
    with pytest.raises(UsageError, match="holds one token and no refresh token"):
        give(book, home, target_file.with_name("x.env"), "env")
    assert ours_may_renew(book)
    assert pending_hand_over(book.read("work")) is None
    assert book.read("work").credential == before.credential
    assert book.read("work").unknown == before.unknown
    assert target_file.read_text() == "something of somebody's"


@pytest.mark.parametrize("answered", [False, True])
def test_a_refresh_whose_outcome_is_open_is_settled_first(
    book: Accounts, home: Home, target_file: Path, *, answered: bool
) -> None:
    journal = FileJournal(home.journal)
    attempt = RefreshAttempt.begin(REFRESH.sha256, NOW, ProcessIdentity.own(), 1)
    journal.begin("work", attempt)
    if answered:
        journal.answer("work", attempt, replace(TOKEN, secret=Secret("renewed")))
    with pytest.raises(TryLater, match="tokenferry refresh work"):
        give(book, home, target_file, journal=journal)
    assert ours_may_renew(book)
    assert not target_file.exists()


def test_what_is_not_ours_to_give_is_refused(book: Accounts, home: Home, target_file: Path) -> None:
    with pytest.raises(ChainCopied, match="tokenferry account confirm work"):
        give(book, home, target_file, machine="another")
    document = book.read("work")
    book.store.swap("work", 1, replace(document, account=replace(document.account, owner="external")))
    with pytest.raises(UsageError, match="owned by external"):
        give(book, home, target_file)
    book.store.swap("work", 2, replace(document, credential=replace(TOKEN, refresh=None)))
    with pytest.raises(UsageError, match="no refresh token"):
        give(book, home, target_file)
    key = replace(document, account=replace(document.account, kind="api-key"), credential=ApiKey(Secret("k")))
    book.store.swap("work", 3, key)
    with pytest.raises(UsageError, match="no refresh token"):
        give(book, home, target_file)
    assert not target_file.exists()


def test_a_record_that_is_none_is_no_hand_over(book: Accounts) -> None:
    document = book.read("work")
    for odd in (None, "x", Fields(), Fields(target="nowhere", path="p")):
        assert pending_hand_over(replace(document, unknown=Fields(handed_over=odd))) is None
