import errno
import os
import random
import re
import signal
import subprocess
import sys
from typing import Any

import pytest
from msgspec.structs import replace

from leaks import leaks
from tokenferry.credentials import OAuthToken
from tokenferry.errors import Conflict, CorruptFile, StorageFailed, UnknownAccount, UnsafeFile, UsageError
from tokenferry.secret import Secret
from tokenferry.settings import Home
from tokenferry.stores import Account, Disk, Document, FileStore, Store

REFRESH = "sk-ant-ort01-" + "Rr1" * 30


def document(number: int = 0, name: str = "work") -> Document:
    token = OAuthToken(Secret(f"sk-ant-oat01-{number:080}"), Secret(f"{REFRESH}{number}"))
    return Document(Account(name, "console", "oauth"), token)


@pytest.fixture
def store(home: Home) -> FileStore:
    return FileStore(home)


@pytest.fixture
def stored(store: FileStore) -> FileStore:
    store.swap("work", None, document())
    return store


def files(home: Home) -> list[str]:
    return sorted(path.name for path in home.accounts.iterdir())


def test_it_is_a_store(store: Store) -> None:
    assert store.names() == []
    assert store.stamps() == {}


def test_what_is_swapped_in_is_read_back_one_generation_higher(stored: FileStore) -> None:
    assert stored.read("work") == document()
    stored.swap("work", 1, document(1))
    assert stored.read("work") == replace(document(1), generation=2)
    assert stored.names() == ["work"]


def test_documents_are_private(stored: FileStore, home: Home) -> None:
    assert home.accounts.stat().st_mode & 0o7777 == 0o700
    assert stored.path("work").stat().st_mode & 0o7777 == 0o600


def test_another_store_on_the_same_home_sees_the_same(stored: FileStore, home: Home) -> None:
    assert FileStore(home).read("work") == document()


def test_an_unknown_account_is_reported_with_the_nearest_name(store: FileStore) -> None:
    with pytest.raises(UnknownAccount, match=r"no account 'work'; there is none yet \(see: tokenferry account list\)"):
        store.read("work")
    store.swap("work", None, document())
    with pytest.raises(UnknownAccount, match=r"no account 'wrok'; did you mean 'work'\?"):
        store.read("wrok")


@pytest.mark.parametrize("name", ["../work", ".work", "", "a/b", "work\x00", "work\n"])
def test_a_bad_name_reaches_no_file(stored: FileStore, name: str) -> None:
    for call in (stored.path, stored.read, stored.lock, stored.discard, lambda bad: stored.swap(bad, None, None)):
        with pytest.raises(UsageError, match="can't be an account's name"):
            call(name)


# -- generations


@pytest.mark.parametrize("expected", [None, 0, 2, -1])
def test_another_generation_is_a_conflict_and_nothing_is_written(stored: FileStore, expected: int | None) -> None:
    before = stored.path("work").read_bytes()
    for new in (document(1), None):
        with pytest.raises(Conflict, match="nothing was written"):
            stored.swap("work", expected, new)
    assert stored.path("work").read_bytes() == before


def test_a_missing_document_is_a_mismatch(store: FileStore, home: Home) -> None:
    with pytest.raises(Conflict):
        store.swap("work", 1, document())
    assert not home.accounts.exists()


def test_the_generation_counts_on_from_what_was_read(store: FileStore) -> None:
    """Whatever generation the new document claims to be."""
    store.swap("work", None, replace(document(), generation=99))
    assert store.read("work").generation == 1
    store.swap("work", 1, replace(document(), generation=50))
    assert store.read("work").generation == 2


def test_none_means_no_document(stored: FileStore, home: Home) -> None:
    stored.swap("work", 1, None)
    assert stored.names() == files(home) == []
    stored.swap("work", None, None)


def test_only_documents_have_names(stored: FileStore, home: Home) -> None:
    for name in (".hidden.json", ".work.json.tmp.0123", "notes.txt", "json"):
        (home.accounts / name).touch()
    assert stored.names() == ["work"]
    assert list(stored.stamps()) == ["work"]


def test_stamps_change_with_documents(stored: FileStore) -> None:
    before = stored.stamps()
    assert stored.stamps() == before
    stored.swap("work", 1, document(1))
    assert stored.stamps() != before
    assert stored.stamps().keys() == {"work"}


# -- unsafe and corrupt ones


@pytest.mark.parametrize("raw", [b"", b"{}", b"{", REFRESH.encode(), b'{"version": 1}', document(name="b").to_bytes()])
def test_a_corrupt_document_is_never_written_over(stored: FileStore, raw: bytes) -> None:
    stored.path("work").write_bytes(raw)
    for call in (
        lambda: stored.read("work"),
        lambda: stored.swap("work", 1, document(1)),
        lambda: stored.swap("work", None, document(1)),
        lambda: stored.swap("work", 1, None),
    ):
        with pytest.raises(CorruptFile, match=re.escape(str(stored.path("work")))) as caught:
            call()
        assert not leaks(caught.value, REFRESH)
    assert stored.path("work").read_bytes() == raw
    assert stored.names() == ["work"]


def test_an_unsafe_document_is_never_read_nor_written_over(stored: FileStore) -> None:
    path = stored.path("work")
    path.chmod(0o640)
    before = path.read_bytes()
    with pytest.raises(UnsafeFile, match=re.escape(f"chmod 0600 '{path}'")) as caught:
        stored.read("work")
    assert not leaks(caught.value, REFRESH)
    with pytest.raises(UnsafeFile):
        stored.swap("work", 1, document(1))
    assert path.read_bytes() == before


def test_a_document_that_can_not_be_read_can_be_discarded(stored: FileStore, home: Home) -> None:
    stored.path("work").write_bytes(b"{")
    stored.discard("work")
    assert files(home) == []
    stored.path("work").symlink_to(home.path / "elsewhere")
    stored.discard("work")
    assert files(home) == []


def test_a_document_that_can_be_read_is_not_discarded(stored: FileStore) -> None:
    with pytest.raises(Conflict, match="can be read"):
        stored.discard("work")
    assert stored.read("work") == document()


# -- a disk that fails


class FailingDisk(Disk):
    def __init__(self) -> None:
        self.is_full = False

    def write(self, descriptor: int, data: bytes, offset: int = 0) -> None:
        if self.is_full:
            super().write(descriptor, data[:20], offset)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().write(descriptor, data, offset)


def test_a_full_disk_leaves_the_old_document_and_no_temporary_file(home: Home) -> None:
    disk = FailingDisk()
    store = FileStore(home, disk=disk)
    store.swap("work", None, document())
    disk.is_full = True
    with pytest.raises(StorageFailed, match="No space left on device; the old content is unchanged") as caught:
        store.swap("work", 1, document(1))
    assert not leaks(caught.value, REFRESH)
    assert files(home) == ["work.json"]
    assert store.read("work") == document()
    disk.is_full = False
    store.swap("work", 1, document(1))
    assert store.read("work").generation == 2


def test_leftovers_of_a_killed_writer_go_with_the_next_swap(stored: FileStore, home: Home) -> None:
    (home.accounts / ".work.json.tmp.0123abcd").write_bytes(b"half")
    (home.accounts / ".other.json.tmp.0123abcd").write_bytes(b"half")
    stored.swap("work", 1, document(1))
    assert files(home) == [".other.json.tmp.0123abcd", "work.json"]


SWAPPER = """
import sys
from msgspec.structs import replace
from pathlib import Path
from tokenferry.credentials import OAuthToken
from tokenferry.secret import Secret
from tokenferry.settings import Home
from tokenferry.stores import FileStore

store = FileStore(Home(Path(sys.argv[1])))
with store.exclusive("work", 30):
    while True:
        old = store.read("work")
        number = old.generation
        token = OAuthToken(Secret(f"access-{number}-" + "x" * 30_000), Secret(f"refresh-{number}"))
        store.swap("work", number, replace(old, credential=token))
        print(number + 1, flush=True)
"""


def test_a_writer_killed_at_any_moment_leaves_the_old_or_the_new_document(stored: FileStore, home: Home) -> None:
    rng = random.Random(1)
    for _ in range(12):
        arguments = [sys.executable, "-c", SWAPPER, str(home.path)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(rng.randint(1, 40))]
            process.send_signal(signal.SIGKILL)
            lines += process.stdout.readlines()
        found = stored.read("work")
        assert found.generation in {int(lines[-1]), int(lines[-1]) + 1}
        number = found.generation - 1
        assert isinstance(found.credential, OAuthToken)
        assert found.credential.secret == Secret(f"access-{number}-" + "x" * 30_000)
        assert found.credential.refresh == Secret(f"refresh-{number}")
    with stored.exclusive("work", 5):
        stored.swap("work", found.generation, document())
    assert files(home) == ["work.json"]


def test_exclusive_excludes(stored: FileStore) -> None:
    with stored.exclusive("work", 5):
        other: Any = stored.lock("work")
        assert not other.try_acquire()
        assert stored.lock("home").try_acquire()
    assert other.try_acquire()
    other.release()
