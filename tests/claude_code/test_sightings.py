import os
import stat
from pathlib import Path

import pytest

from tokenferry.claude_code._sightings import Sightings
from tokenferry.settings import Home


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "some.lock"
    path.mkdir()
    return path


def new(folder: Path, clock: Clock, boot: str = "boot") -> Sightings:
    """What a process of its own begins with."""
    return Sightings(folder, monotonic=clock, boot=lambda: boot)


def test_several_processes_see_the_time_together(locks: Path, clock: Clock, lock: Path) -> None:
    for passed in (0.0, 20.0, 40.0, 60.0):
        clock.now = 1000 + passed
        assert new(locks, clock).unchanged_for(lock, lock.stat()) == passed


def test_a_touched_lock_is_seen_for_the_first_time(locks: Path, clock: Clock, lock: Path) -> None:
    sightings = new(locks, clock)
    sightings.unchanged_for(lock, lock.stat())
    clock.now += 50
    os.utime(lock, ns=(1, lock.stat().st_mtime_ns + 1))
    assert sightings.unchanged_for(lock, lock.stat()) == 0
    clock.now += 7
    assert new(locks, clock).unchanged_for(lock, lock.stat()) == 7


def test_a_lock_made_again_is_another_one(locks: Path, clock: Clock, lock: Path) -> None:
    before = lock.stat()
    new(locks, clock).unchanged_for(lock, before)
    lock.rename(lock.with_name("kept"))
    lock.mkdir()
    os.utime(lock, ns=(before.st_atime_ns, before.st_mtime_ns))
    clock.now += 70
    assert new(locks, clock).unchanged_for(lock, lock.stat()) == 0


def test_a_restart_of_the_machine_starts_the_clock_again(locks: Path, clock: Clock, lock: Path) -> None:
    new(locks, clock).unchanged_for(lock, lock.stat())
    clock.now += 70
    assert new(locks, clock, "other boot").unchanged_for(lock, lock.stat()) == 0
    clock.now = 5
    assert new(locks, clock, "other boot").unchanged_for(lock, lock.stat()) == 0, "a clock that runs behind is another"


def test_one_lock_is_one_by_whatever_path(locks: Path, clock: Clock, lock: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    new(locks, clock).unchanged_for(lock, lock.stat())
    clock.now += 9
    assert new(locks, clock).unchanged_for(tmp_path / "link" / lock.name, lock.stat()) == 9


def test_what_is_forgotten_is_forgotten_on_disk(locks: Path, clock: Clock, lock: Path) -> None:
    sightings = new(locks, clock)
    sightings.forget(lock)
    sightings.unchanged_for(lock, lock.stat())
    (file,) = locks.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    sightings.forget(lock)
    assert list(locks.iterdir()) == []
    clock.now += 70
    assert sightings.unchanged_for(lock, lock.stat()) == 0


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"path":1,"boot":"boot"}', b"\xff"])
def test_a_spoilt_record_counts_as_none(locks: Path, clock: Clock, lock: Path, content: bytes) -> None:
    new(locks, clock).unchanged_for(lock, lock.stat())
    (file,) = locks.iterdir()
    file.write_bytes(content)
    clock.now += 70
    assert new(locks, clock).unchanged_for(lock, lock.stat()) == 0


def test_without_a_disk_one_process_still_sees_the_time(home: Home, clock: Clock, lock: Path) -> None:
    (home.path / "file").touch()
    sightings = new(home.path / "file" / "locks", clock)
    assert sightings.unchanged_for(lock, lock.stat()) == 0
    clock.now += 60
    assert sightings.unchanged_for(lock, lock.stat()) == 60
    sightings.forget(lock)
