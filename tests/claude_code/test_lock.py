import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from claude_code.rig import HOLDER, eventually, line, running
from tokenferry.claude_code import ClaudeCodeHome, ClaudeCodeLock, LockTiming, WriteLock
from tokenferry.errors import LockTimeout, RefreshFailed, StorageFailed, UnsafeFile

LONG = 30.0


def quick(claude: ClaudeCodeHome, locks: Path, **given: Any) -> ClaudeCodeLock:
    return ClaudeCodeLock(claude, locks, timing=LockTiming(heartbeat=0.02, pause=0.005, **given))


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def on(clock: Clock, claude: ClaudeCodeHome, locks: Path) -> ClaudeCodeLock:
    """A lock of a process of its own, with the true durations, by this clock."""
    return ClaudeCodeLock(claude, locks, monotonic=clock, sleep=clock.sleep)


@contextmanager
def held(lock: ClaudeCodeLock) -> Iterator[ClaudeCodeLock]:
    lock.acquire(LONG)
    try:
        yield lock
    finally:
        lock.release()


# -- holding


def test_both_directories_are_made_in_their_order_and_removed_in_reverse(claude: ClaudeCodeHome, locks: Path) -> None:
    events: list[tuple[str, str]] = []

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if recording and event in {"os.mkdir", "os.rmdir"} and str(arguments[0]).endswith("lock"):
            events.append((event, str(arguments[0])))

    recording = True
    sys.addaudithook(hook)
    with held(quick(claude, locks)) as lock:
        assert lock.is_still_ours()
        assert claude.refresh_lock.is_dir()
        assert claude.folder_lock.is_dir()
    recording = False
    first, second = str(claude.refresh_lock), str(claude.folder_lock)
    assert events == [("os.mkdir", first), ("os.mkdir", second), ("os.rmdir", second), ("os.rmdir", first)]
    assert not lock.is_still_ours()
    lock.release()


def test_both_are_kept_fresh(claude: ClaudeCodeHome, locks: Path) -> None:
    def times() -> tuple[int, int]:
        return claude.refresh_lock.stat().st_mtime_ns, claude.folder_lock.stat().st_mtime_ns

    with held(quick(claude, locks)) as lock:
        for _ in range(3):
            before = times()
            eventually(lambda before=before: all(new > old for new, old in zip(times(), before, strict=True)))  # type: ignore[misc]  # mypy can't infer a lambda with a default
        assert lock.is_still_ours()
        assert abs(times()[0] / 1e9 - time.time()) < LONG


def test_the_first_is_kept_fresh_while_the_second_is_waited_for(claude: ClaudeCodeHome, locks: Path) -> None:
    claude.folder_lock.mkdir()
    lock = quick(claude, locks)
    thread = threading.Thread(target=lock.acquire, args=(LONG,))
    thread.start()
    eventually(claude.refresh_lock.is_dir)
    before = claude.refresh_lock.stat().st_mtime_ns
    eventually(lambda: claude.refresh_lock.stat().st_mtime_ns > before)
    assert not lock.is_still_ours()
    claude.folder_lock.rmdir()
    thread.join()
    assert lock.is_still_ours()
    lock.release()


def test_the_heart_ends_with_the_lock(claude: ClaudeCodeHome, locks: Path) -> None:
    with held(quick(claude, locks)):
        (heart,) = (thread for thread in threading.enumerate() if thread.name == "tokenferry-lock-heart")
        assert heart.daemon
    heart.join(LONG)
    assert not heart.is_alive()


def test_it_can_be_taken_again_and_by_another(claude: ClaudeCodeHome, locks: Path) -> None:
    one, two = quick(claude, locks), quick(claude, locks)
    for lock in (one, one, two, one):
        with held(lock):
            assert lock.is_still_ours()


@pytest.mark.parametrize("which", ["refresh_lock", "folder_lock"])
def test_while_either_is_held_nothing_is_taken(claude: ClaudeCodeHome, locks: Path, which: str) -> None:
    taken: Path = getattr(claude, which)
    taken.mkdir()
    lock = quick(claude, locks)
    with pytest.raises(LockTimeout, match=f"{taken} is held by Claude Code; try again"):
        lock.acquire(0)
    assert not lock.is_still_ours()
    assert [path for path in (claude.refresh_lock, claude.folder_lock) if path.exists()] == [taken]


def test_without_a_thread_to_keep_it_nothing_is_held(
    claude: ClaudeCodeHome, locks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RefreshFailed, match="no thread"):
        quick(claude, locks).acquire(0)
    assert not claude.refresh_lock.exists()


def test_where_no_lock_can_be_made(tmp_path: Path, locks: Path) -> None:
    with pytest.raises(StorageFailed, match="can't be made"):
        ClaudeCodeLock(ClaudeCodeHome(tmp_path / "none" / "none"), locks).acquire(0)


def test_the_write_lock_is_one_directory(claude: ClaudeCodeHome, locks: Path) -> None:
    lock = WriteLock(claude, locks)
    lock.acquire(0)
    assert claude.write_lock.is_dir()
    assert lock.is_still_ours()
    lock.release()
    assert list(claude.path.iterdir()) == []


def test_a_touch_that_fails_is_tried_again(
    claude: ClaudeCodeHome, locks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with held(quick(claude, locks)) as lock:
        failures = threading.Semaphore(0)

        def refuse(*_: object, **__: object) -> None:
            failures.release()
            raise OSError(errno.EIO, "refused")

        with monkeypatch.context() as patch:
            patch.setattr(os, "utime", refuse)
            assert all(failures.acquire(timeout=LONG) for _ in range(4))
        before = claude.folder_lock.stat().st_mtime_ns
        eventually(lambda: claude.folder_lock.stat().st_mtime_ns > before)
        assert lock.is_still_ours()


# -- naming the holder


@pytest.mark.parametrize(
    ("note", "holder"),
    [
        (json.dumps({"pid": os.getpid(), "procStart": "1"}), f"Claude Code (process {os.getpid()})"),
        (json.dumps({"pid": 1}), "Claude Code (process 1)"),
        (json.dumps({"pid": 2**22 + 1}), "Claude Code"),
        (json.dumps({"pid": 2**80}), "Claude Code"),
        (json.dumps({"pid": "1"}), "Claude Code"),
        (json.dumps({"pid": -1}), "Claude Code"),
        ("{", "Claude Code"),
    ],
    ids=["running", "another user's", "gone", "too large", "no number", "negative", "no JSON"],
)
def test_the_holder_is_named_as_its_note_says(claude: ClaudeCodeHome, locks: Path, note: str, holder: str) -> None:
    claude.refresh_lock.mkdir()
    claude.refresh_lock_owner.write_text(note)
    with pytest.raises(LockTimeout) as caught:
        quick(claude, locks).acquire(0)
    assert caught.value.holder == holder
    assert claude.refresh_lock_owner.read_text() == note


def test_a_pipe_in_place_of_the_note_names_no_one_and_does_not_hang(claude: ClaudeCodeHome, locks: Path) -> None:
    claude.refresh_lock.mkdir()
    os.mkfifo(claude.refresh_lock_owner)
    with pytest.raises(LockTimeout, match="held by Claude Code;"):
        quick(claude, locks).acquire(0)


# -- staleness


def test_locks_unchanged_for_sixty_seconds_are_taken_over_together(claude: ClaudeCodeHome, locks: Path) -> None:
    clock = Clock()
    claude.refresh_lock.mkdir()
    claude.folder_lock.mkdir()
    lock = on(clock, claude, locks)
    lock.acquire(61)
    assert 1060 <= clock.now < 1061
    assert lock.is_still_ours()
    lock.release()


def test_several_short_lived_commands_see_the_sixty_seconds_together(claude: ClaudeCodeHome, locks: Path) -> None:
    claude.refresh_lock.mkdir()
    clock = Clock()
    for _ in range(5):
        with pytest.raises(LockTimeout):
            on(clock, claude, locks).acquire(0)
        clock.now += 11
    clock.now = 1060
    with held(on(clock, claude, locks)) as lock:
        assert lock.is_still_ours()
    assert [path for path in locks.iterdir() if path.suffix == ".seen"] == []


def test_a_lock_that_is_kept_fresh_is_never_taken_over(claude: ClaudeCodeHome, locks: Path) -> None:
    claude.refresh_lock.mkdir()
    clock = Clock()

    def sleep(seconds: float) -> None:
        clock.now += seconds
        if clock.now % 5 < seconds:
            now = claude.refresh_lock.stat().st_mtime_ns
            os.utime(claude.refresh_lock, ns=(now, now + 1))

    with pytest.raises(LockTimeout):
        ClaudeCodeLock(claude, locks, monotonic=clock, sleep=sleep).acquire(600)
    assert clock.now >= 1600


@pytest.mark.parametrize("ahead", [3600, 10 * 365 * 86400, -1800])
def test_a_time_in_the_future_or_the_past_says_nothing(claude: ClaudeCodeHome, locks: Path, ahead: float) -> None:
    claude.folder_lock.mkdir()
    when = time.time() + ahead
    os.utime(claude.folder_lock, (when, when))
    clock = Clock()
    with pytest.raises(LockTimeout):
        on(clock, claude, locks).acquire(59)
    on(clock, claude, locks).acquire(2)


@pytest.mark.parametrize("which", ["refresh_lock", "folder_lock"])
def test_a_lock_an_hour_old_is_taken_over_after_ten_seconds(claude: ClaudeCodeHome, locks: Path, which: str) -> None:
    old: Path = getattr(claude, which)
    old.mkdir()
    when = time.time() - 3601
    os.utime(old, (when, when))
    claude.refresh_lock_owner.write_text(json.dumps({"pid": 2**22 + 1}))
    clock = Clock()
    with held(on(clock, claude, locks)) as lock:
        assert lock.is_still_ours()
    assert 1010 <= clock.now < 1011
    assert claude.refresh_lock_owner.exists(), "it isn't ours to remove"


def test_one_that_a_clock_made_look_old_is_not_taken_over_when_its_holder_touches_it(
    claude: ClaudeCodeHome, locks: Path
) -> None:
    """As happens to an older version, which leaves no word of its process, when the machine slept."""
    claude.folder_lock.mkdir()
    os.utime(claude.folder_lock, (1, 1))
    clock = Clock()
    with pytest.raises(LockTimeout):
        on(clock, claude, locks).acquire(5)
    os.utime(claude.folder_lock)
    with pytest.raises(LockTimeout):
        on(clock, claude, locks).acquire(54)


def test_unless_its_owner_runs_which_may_have_slept_with_the_machine(claude: ClaudeCodeHome, locks: Path) -> None:
    claude.refresh_lock.mkdir()
    os.utime(claude.refresh_lock, (1, 1))
    claude.refresh_lock_owner.write_text(json.dumps({"pid": os.getpid()}))
    clock = Clock()
    with pytest.raises(LockTimeout):
        on(clock, claude, locks).acquire(59)
    with held(on(clock, claude, locks)) as lock:
        assert lock.is_still_ours()


@pytest.mark.parametrize("which", ["refresh_lock", "folder_lock"])
def test_a_file_where_the_directory_should_be_is_reported_and_left(
    claude: ClaudeCodeHome, locks: Path, which: str
) -> None:
    wrong: Path = getattr(claude, which)
    wrong.write_text("x")
    os.utime(wrong, (1, 1))
    with pytest.raises(UnsafeFile, match=f"{wrong} is not a directory"):
        on(Clock(), claude, locks).acquire(600)
    assert wrong.read_text() == "x"
    assert [path for path in (claude.refresh_lock, claude.folder_lock) if path.exists()] == [wrong]


# -- losing it


def test_a_lock_taken_over_is_reported_and_not_removed(claude: ClaudeCodeHome, locks: Path) -> None:
    lock = quick(claude, locks)
    lock.acquire(0)
    claude.folder_lock.rmdir()
    claude.folder_lock.mkdir()
    assert not lock.is_still_ours()
    successor = claude.folder_lock.stat().st_mtime_ns
    before = claude.refresh_lock.stat().st_mtime_ns
    eventually(lambda: claude.refresh_lock.stat().st_mtime_ns > before)
    assert claude.folder_lock.stat().st_mtime_ns == successor, "a successor's lock is not touched"
    lock.release()
    assert claude.folder_lock.is_dir()
    assert not claude.refresh_lock.exists()


# -- processes


def test_processes_exclude_each_other(claude: ClaudeCodeHome, locks: Path) -> None:
    script = """
counter = home.path / "counter"
for _ in range(20):
    lock.acquire(60)
    number = int(counter.read_text())
    counter.write_text(str(number + 1))
    assert lock.is_still_ours()
    lock.release()
print("done", flush=True)
"""
    (claude.path / "counter").write_text("0")
    arguments = (claude.path, locks, 60)
    with running(script, *arguments) as one, running(script, *arguments) as two, running(script, *arguments) as three:
        assert [line(process) for process in (one, two, three)] == ["done"] * 3
    assert (claude.path / "counter").read_text() == "60"


def test_the_lock_of_a_killed_process_is_taken_over_once_it_is_stale(claude: ClaudeCodeHome, locks: Path) -> None:
    with running(HOLDER, claude.path, locks, 60) as process:
        assert line(process) == "held"
        process.kill()
        process.wait()
    assert claude.refresh_lock.is_dir()
    assert claude.folder_lock.is_dir()
    with pytest.raises(LockTimeout):
        quick(claude, locks).acquire(0)
    with held(on(Clock(time.monotonic() + 60), claude, locks)) as lock:
        assert lock.is_still_ours()


def test_a_suspended_process_loses_it_knows_it_and_leaves_its_successor_alone(
    claude: ClaudeCodeHome, locks: Path
) -> None:
    with running(HOLDER, claude.path, locks, 60) as process:
        assert line(process) == "held"
        process.send_signal(signal.SIGSTOP)
        with held(quick(claude, locks, stale=0.2)) as lock:
            process.send_signal(signal.SIGCONT)
            assert process.stdin is not None
            process.stdin.close()
            process.stdin = None
            assert line(process) == "lost"
            assert process.wait(LONG) == 0
            assert lock.is_still_ours()
            assert claude.refresh_lock.is_dir()


def test_a_process_suspended_for_a_moment_still_holds_it(claude: ClaudeCodeHome, locks: Path) -> None:
    with running(HOLDER, claude.path, locks, 60) as process:
        assert line(process) == "held"
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(LockTimeout):
            quick(claude, locks).acquire(0)
        process.send_signal(signal.SIGCONT)
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
        assert line(process) == "ours"
        assert process.wait(LONG) == 0
    assert not claude.refresh_lock.exists()


def test_a_forked_child_neither_holds_nor_touches_nor_removes_it(claude: ClaudeCodeHome, locks: Path) -> None:
    script = """
lock.acquire(20)
child = os.fork()
if child == 0:
    assert not lock.is_still_ours()
    lock.release()
    try:
        lock.acquire(0)
    except LockTimeout:
        os._exit(7)
    os._exit(1)
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status), lock.is_still_ours(), flush=True)
lock.release()
"""
    with running(script, claude.path, locks, 60) as process:
        assert line(process) == "7 True"
        assert process.wait(LONG) == 0
    assert not claude.refresh_lock.exists()


FILES: Final = """
import os
names = [f"/proc/self/fd/{number}" for number in range(3, 40)]
print([os.readlink(name) for name in names if os.path.islink(name)])
"""


def test_a_child_process_inherits_no_descriptor_of_it(claude: ClaudeCodeHome, locks: Path) -> None:
    with held(quick(claude, locks)):
        command = [sys.executable, "-c", FILES]
        out = subprocess.run(command, capture_output=True, text=True, check=True, close_fds=False).stdout
    assert out.startswith("[")
    assert ".lock" not in out
