import errno
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tokenferry.errors import LockTimeout, StorageFailed, UnsafeFile
from tokenferry.stores import FileLock, refuse_network_file_system

LONG = 30.0


@pytest.fixture
def document(tmp_path: Path) -> Path:
    return tmp_path / "accounts" / "work.json"


@pytest.fixture
def locks(tmp_path: Path) -> Path:
    return tmp_path / "locks"


@contextmanager
def running(script: str, document: Path, locks: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has `lock`; it has said `ready` before the block begins, and is killed after it."""
    prelude = "import os, sys, time\nfrom pathlib import Path\nfrom tokenferry.stores import FileLock\n"
    prelude += "document, locks = map(Path, sys.argv[1:3])\nlock = FileLock(document, locks)\n"
    arguments = [sys.executable, "-c", prelude + script, str(document), str(locks)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


HOLDER = """
lock.acquire(5)
print("ready", flush=True)
sys.stdin.read()
"""


# -- exclusion


def test_a_held_lock_is_held_against_every_other_object(document: Path, locks: Path) -> None:
    first, second = FileLock(document, locks), FileLock(document, locks)
    assert first.try_acquire()
    assert not second.try_acquire()
    assert not first.try_acquire()  # it isn't re-entrant
    first.release()
    assert second.try_acquire()
    second.release()


def test_locks_of_different_documents_have_nothing_to_do_with_each_other(document: Path, locks: Path) -> None:
    with FileLock(document, locks).held(0):
        other = FileLock(document.with_name("home.json"), locks)
        assert other.try_acquire()
        other.release()


def test_a_document_has_one_lock_by_whatever_path(document: Path, locks: Path, tmp_path: Path) -> None:
    document.parent.mkdir()
    (tmp_path / "link").symlink_to(document.parent)
    ways = [document, tmp_path / "link" / "work.json", tmp_path / "accounts" / ".." / "accounts" / "work.json"]
    assert len({FileLock(way, locks).path for way in ways}) == 1


def test_threads_exclude_each_other(document: Path, locks: Path) -> None:
    inside, most, turns = 0, 0, 0

    def work() -> None:
        nonlocal inside, most, turns
        for _ in range(20):
            with FileLock(document, locks).held(LONG):
                inside += 1
                most = max(most, inside)
                turns += 1
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, turns) == (1, 160)


COUNTER = """
print("ready", flush=True)
for _ in range(50):
    with lock.held(60):
        number = int(document.read_text())
        document.write_text(str(number + 1))
print("done", flush=True)
"""


def test_processes_exclude_each_other(document: Path, locks: Path) -> None:
    document.parent.mkdir()
    document.write_text("0")
    with (
        running(COUNTER, document, locks) as one,
        running(COUNTER, document, locks) as two,
        running(COUNTER, document, locks) as three,
    ):
        for process in (one, two, three):
            assert process.stdout is not None
            assert process.stdout.read() == "done\n"
    assert document.read_text() == "150"


def test_a_wait_that_is_too_long_ends_with_the_holder_s_name(document: Path, locks: Path) -> None:
    with running(HOLDER, document, locks) as holder, pytest.raises(LockTimeout) as caught:
        FileLock(document, locks).acquire(0.05)
    assert caught.value.holder == f"process {holder.pid} (-c)"
    assert str(caught.value) == f"{document} is in use by process {holder.pid} (-c); try again when it is done"
    assert caught.value.retry_after == 1.0


def test_a_timeout_of_nothing_tries_once(document: Path, locks: Path) -> None:
    with FileLock(document, locks).held(0):
        pass
    slept: list[float] = []
    with FileLock(document, locks).held(0), pytest.raises(LockTimeout):
        FileLock(document, locks).acquire(0, sleep=slept.append)
    assert not slept


def test_a_waiter_pauses_and_never_beyond_its_time(document: Path, locks: Path) -> None:
    pauses: list[float] = []

    def sleep(pause: float) -> None:
        pauses.append(pause)
        if len(pauses) == 20:
            holder.release()

    holder, waiter = FileLock(document, locks), FileLock(document, locks)
    holder.acquire(0)
    waiter.acquire(LONG, sleep=sleep)
    assert len(pauses) == 20
    assert all(0 < pause <= 0.1 for pause in pauses)
    assert max(pauses[:3]) < 0.02
    waiter.release()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff" * 600, b"[]", b'{"pid": 1' + b" " * 600 + b"}"])
def test_a_holder_that_left_no_name_is_another_process(document: Path, locks: Path, content: bytes) -> None:
    lock = FileLock(document, locks)
    assert lock.holder() == "another process"
    locks.mkdir(mode=0o700)
    lock.path.write_bytes(content)
    assert lock.holder() == "another process"


# -- letting go


def test_a_block_that_raises_lets_go(document: Path, locks: Path) -> None:
    with pytest.raises(ZeroDivisionError), FileLock(document, locks).held(0):
        _ = 1 / 0
    with FileLock(document, locks).held(0):
        pass


def test_releasing_what_is_not_held_is_harmless(document: Path, locks: Path) -> None:
    lock, other = FileLock(document, locks), FileLock(document, locks)
    lock.release()
    other.acquire(0)
    lock.release()
    assert not FileLock(document, locks).try_acquire()
    other.release()
    other.release()


def test_no_holder_is_named_after_a_release(document: Path, locks: Path) -> None:
    lock = FileLock(document, locks)
    with lock.held(0):
        assert lock.holder().startswith(f"process {os.getpid()} ")
    assert lock.holder() == "another process"


def test_kill_9_lets_go(document: Path, locks: Path) -> None:
    with running(HOLDER, document, locks) as holder:
        assert not FileLock(document, locks).try_acquire()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with FileLock(document, locks).held(LONG):
            pass


def test_release_frees_it_for_copies_of_the_descriptor_too(document: Path, locks: Path) -> None:
    """A child that was forked behind Python's back has such a copy."""
    lock = FileLock(document, locks)
    lock.acquire(0)
    assert lock._descriptor is not None
    copy = os.dup(lock._descriptor)
    lock.release()
    other = FileLock(document, locks)
    assert other.try_acquire()
    other.release()
    os.close(copy)


def test_a_descriptor_is_not_passed_on_to_programs(document: Path, locks: Path) -> None:
    lock = FileLock(document, locks)
    lock.acquire(0)
    assert lock._descriptor is not None
    assert not os.get_inheritable(lock._descriptor)
    lock.release()


def test_no_descriptor_is_left_behind(document: Path, locks: Path) -> None:
    holder = FileLock(document, locks)
    holder.acquire(0)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        assert not FileLock(document, locks).try_acquire()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    holder.release()
    assert len(list(Path("/proc/self/fd").iterdir())) == before - 1


# -- forks

CHILD_LETS_GO = """
lock.acquire(5)
if os.fork() == 0:
    assert lock._descriptor is None
    lock.release()
    assert not FileLock(document, locks).try_acquire()
    os._exit(0)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
assert lock.holder().startswith(f"process {os.getpid()} ")
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_forked_child_does_not_have_the_lock_and_can_not_let_go_of_it(document: Path, locks: Path) -> None:
    with running(CHILD_LETS_GO, document, locks):
        assert not FileLock(document, locks).try_acquire()


CHILD_OUTLIVES = """
lock.acquire(5)
reading, writing = os.pipe()
if os.fork() == 0:
    os.write(writing, b"x")
    os.close(1)
    time.sleep(600)
os.read(reading, 1)
print("ready", flush=True)
sys.stdin.readline()
"""


def test_a_forked_child_does_not_keep_the_lock_of_its_dead_parent(document: Path, locks: Path) -> None:
    script = CHILD_OUTLIVES.replace("os.fork() == 0", "(child := os.fork()) == 0")
    script = script.replace("sys.stdin.readline()", "sys.stdin.readline()\nprint(child, flush=True)\nsys.stdin.read()")
    with running(script, document, locks) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        parent.stdin.write("\n")
        parent.stdin.flush()
        child = int(parent.stdout.readline())
        try:
            parent.send_signal(signal.SIGKILL)
            parent.wait()
            with FileLock(document, locks).held(LONG):
                os.kill(child, 0)  # it still lives
        finally:
            os.kill(child, signal.SIGKILL)


# -- the lock file


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_lock_files_are_private_whatever_the_umask(document: Path, locks: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        lock = FileLock(document, locks)
        lock.acquire(0)
    finally:
        os.umask(before)
    assert stat.S_IMODE(lock.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(locks.stat().st_mode) == 0o700
    lock.release()


def test_a_symlink_in_its_place_is_refused(document: Path, locks: Path, tmp_path: Path) -> None:
    lock = FileLock(document, locks)
    locks.mkdir(mode=0o700)
    lock.path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafeFile, match=f"{lock.path} is a symbolic link"):
        lock.try_acquire()
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_in_its_place_is_reported(document: Path, locks: Path) -> None:
    lock = FileLock(document, locks)
    lock.path.mkdir(mode=0o700, parents=True)
    locks.chmod(0o700)
    with pytest.raises(StorageFailed, match="can't be opened: Is a directory"):
        lock.try_acquire()


def test_a_folder_of_locks_that_others_could_write_is_refused(document: Path, locks: Path) -> None:
    locks.mkdir()
    locks.chmod(0o770)
    with pytest.raises(UnsafeFile, match=f"chmod 0750 '{locks}'"):
        FileLock(document, locks).try_acquire()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS], ids=errno.errorcode.get)
def test_a_file_system_without_locks_is_reported(
    document: Path, locks: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(StorageFailed, match="can't be taken"):
        FileLock(document, locks).try_acquire()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_an_interrupt_while_locking_leaves_no_descriptor(
    document: Path, locks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fcntl.flock", flock)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(KeyboardInterrupt):
        FileLock(document, locks).try_acquire()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


# -- network file systems

MOUNTS = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 27 0:50 / /home rw - nfs4 server:/home rw
41 27 0:51 / /home/me/local rw - ext4 /dev/vdb rw
42 27 0:52 / /mnt/two\\040words rw - cifs //server/share rw
43 27 0:53 / /mnt/gr\u00fc\u00dfe rw - fuse.sshfs me@host: rw
44 27 0:54 / /mnt/over rw - nfs server:/a rw
45 27 0:55 / /mnt/over rw - tmpfs tmpfs rw
46 27 0:56 / /mnt/under rw - tmpfs tmpfs rw
47 27 0:57 / /mnt/under rw master:2 propagate_from:3 - 9p host rw
48 27 0:58 / /mnt/back\\134slash rw - nfs server:/b rw
49 27 0:59 / /mnt/odd\u2028line rw - nfs server:/c rw
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/", None),
        ("/home", "nfs4"),
        ("/home/me", "nfs4"),
        ("/homeless", None),
        ("/home/me/local", None),
        ("/home/me/local/deep/er", None),
        ("/home/me/locale", "nfs4"),
        ("/mnt/two words", "cifs"),
        ("/mnt/two words/x", "cifs"),
        ("/mnt/gr\u00fc\u00dfe/x", "fuse.sshfs"),
        ("/mnt/over/x", None),
        ("/mnt/under/x", "9p"),
        ("/mnt/back\\slash/x", "nfs"),
        ("/mnt/odd\u2028line/x", "nfs"),
    ],
)
def test_folders_shared_over_a_network_are_refused(tmp_path: Path, folder: str, kind: str | None) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS, encoding="utf-8")
    if kind is None:
        refuse_network_file_system(Path(folder), mounts=mounts)
        return
    with pytest.raises(UnsafeFile) as caught:
        refuse_network_file_system(Path(folder), mounts=mounts)
    assert str(caught.value) == (
        f"{folder} lies on a network file system ({kind}), where locks do not hold between machines; "
        "set TOKENFERRY_HOME to a folder on a local disk"
    )


def test_where_there_is_no_table_of_mounts_nothing_is_refused(tmp_path: Path) -> None:
    refuse_network_file_system(tmp_path, mounts=tmp_path / "none")


def test_a_lock_on_a_network_file_system_is_never_taken(
    document: Path, locks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokenferry.stores._lock._file_system", lambda *_: "nfs")
    lock = FileLock(document, locks)
    with pytest.raises(UnsafeFile, match="network file system"):
        lock.acquire(LONG)
    assert not lock.path.exists()


def test_a_lock_waits_on_the_monotonic_clock(document: Path, locks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: pytest.fail("the wall clock may jump"))
    with FileLock(document, locks).held(0), pytest.raises(LockTimeout):
        FileLock(document, locks).acquire(0.01)
