import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import pytest

from tokenferry.credentials import ApiKey
from tokenferry.errors import CorruptFile, LockTimeout, UnsafeFile, UsageError
from tokenferry.secret import Secret
from tokenferry.settings import Home
from tokenferry.stores import Account, AttachedStore, Attachments, Document, FileStore, MemoryStore, Store

ACCOUNT = Account("mine", "claude-max", "oauth", "claude-code", "claude-code", labels=MappingProxyType({"a": "b"}))


@pytest.fixture
def attachments(home: Home) -> Attachments:
    return Attachments(home.attached)


def test_what_was_put_is_there_until_it_is_removed(attachments: Attachments) -> None:
    assert (attachments.names(), attachments.read("mine")) == ([], None)
    attachments.put(ACCOUNT)
    assert (attachments.names(), attachments.read("mine")) == (["mine"], ACCOUNT)
    assert attachments.path("mine").stat().st_mode & 0o777 == 0o600
    attachments.remove("mine")
    attachments.remove("mine")
    assert (attachments.names(), attachments.read("mine")) == ([], None)


def test_what_a_killed_writer_left_is_no_account_and_goes_with_the_next_write(attachments: Attachments) -> None:
    attachments.put(ACCOUNT)
    leftover = attachments.path("mine").with_name(".mine.json.tmp.0123abcd")
    leftover.touch()
    assert attachments.names() == ["mine"]
    attachments.put(ACCOUNT)
    assert not leftover.exists()


@pytest.mark.parametrize(
    ("content", "mode", "kind"),
    [(b"{", 0o600, CorruptFile), (b'{"version": 1}', 0o600, CorruptFile), (b"{}", 0o644, UnsafeFile)],
)
def test_what_can_not_be_read_says_what_to_do(
    attachments: Attachments, content: bytes, mode: int, kind: type[Exception]
) -> None:
    attachments.put(ACCOUNT)
    attachments.path("mine").write_bytes(content)
    attachments.path("mine").chmod(mode)
    with pytest.raises(kind, match=r"tokenferry account remove mine|chmod 0600"):
        attachments.read("mine")


def test_an_account_without_a_place_uses_its_stores_default_place(home: Home, tmp_path: Path) -> None:
    store = AttachedStore(FileStore(home), home.attached, lambda _: MemoryStore())
    folder = MappingProxyType({"config_dir": "/one"})
    store.attach(Account("one", "claude-max", "oauth", "claude-code", "claude-code", labels=folder))
    with pytest.raises(UsageError, match="'one' is attached to that login already"):
        store.attach(ACCOUNT)
    (tmp_path / "link").symlink_to("/one")
    linked = MappingProxyType({"config_dir": str(tmp_path / "link")})
    with pytest.raises(UsageError, match="'one' is attached to that login already"):
        store.attach(Account("three", "claude-max", "oauth", "claude-code", "claude-code", labels=linked))
    other = MappingProxyType({"config_dir": "/two"})
    store.attach(Account("two", "claude-max", "oauth", "claude-code", "claude-code", labels=other))
    assert store.names() == ["one", "two"]


class Interrupted:
    """A move that was cut short, of the account `key`."""

    def __init__(self) -> None:
        self.is_over = False
        self.asked: list[float] = []

    def concerns(self, name: str) -> bool:
        return name == "key" and not self.is_over

    def recover(self, timeout: float) -> None:
        self.asked.append(timeout)
        if len(self.asked) > 1:
            raise LockTimeout("in use", holder="somebody")
        self.is_over = True

    @contextmanager
    def held_off(self, timeout: float) -> Iterator[None]:
        if not self.is_over:
            self.recover(timeout)
        yield


def put(files: FileStore, name: str) -> None:
    files.swap(name, None, Document(Account(name, "anthropic", "api-key"), ApiKey(Secret("sk-one"))))


def test_no_one_gets_the_lock_of_an_account_whose_move_was_cut_short(home: Home) -> None:
    files, moves = FileStore(home), Interrupted()
    put(files, "key")
    put(files, "other")
    store: Store = AttachedStore(files, home.attached, lambda _: MemoryStore(), moves=moves)
    with store.exclusive("other", 5):
        assert moves.asked == []
    lock = store.lock("key")
    lock.acquire(5)
    assert len(moves.asked) == 1
    assert 0 < moves.asked[0] <= 5
    assert lock.is_still_ours()
    assert not files.lock("key").try_acquire()
    lock.release()
    moves.is_over = False
    with pytest.raises(LockTimeout):
        lock.acquire(5)
    other = files.lock("key")
    assert other.try_acquire(), "what fails leaves no lock behind"
    other.release()


def test_who_waited_while_an_account_was_attached_holds_the_lock_of_its_new_place(home: Home, tmp_path: Path) -> None:
    files, place = FileStore(home), MemoryStore()
    put(files, "key")
    store = AttachedStore(files, home.attached, lambda _: place)
    lock = store.lock("key")
    Attachments(home.attached).put(Account("key", "anthropic", "api-key", "claude-code", "claude-code"))
    lock.acquire(5)
    with pytest.raises(LockTimeout):
        place.lock("key").acquire(0)
    lock.release()
    place.lock("key").acquire(0)


def test_removing_an_attached_account_removes_its_copy_first(home: Home) -> None:
    files = FileStore(home)
    put(files, "key")
    store = AttachedStore(files, home.attached, lambda _: MemoryStore())
    Attachments(home.attached).put(Account("key", "anthropic", "api-key", "claude-code", "claude-code"))
    store.detach("key")
    assert store.names() == []
    assert json.dumps(files.names()) == "[]"
