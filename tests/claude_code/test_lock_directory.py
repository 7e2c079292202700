import os
import stat
from pathlib import Path

import pytest

from tokenferry.claude_code._lock_directory import LockDirectory
from tokenferry.errors import StorageFailed, UnsafeFile
from tokenferry.stores import Disk


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.lock"


def test_who_makes_it_holds_it(path: Path) -> None:
    one, two = LockDirectory(path), LockDirectory(path)
    assert one.make() is None
    seen = two.make()
    assert seen is not None
    assert stat.S_ISDIR(seen.st_mode)
    assert (one.is_ours(), two.is_ours()) == (True, False)
    two.remove()
    assert path.is_dir()
    one.remove()
    assert not path.exists()
    one.remove()


def test_a_touch_keeps_it_ours(path: Path) -> None:
    lock = LockDirectory(path)
    lock.make()
    before = path.stat().st_mtime_ns
    lock.touch()
    assert path.stat().st_mtime_ns > before
    assert lock.is_ours()
    lock.remove()


def test_removed_replaced_or_touched_it_is_not_ours_and_left_alone(path: Path) -> None:
    removed, replaced, touched = LockDirectory(path), LockDirectory(path), LockDirectory(path)
    removed.make()
    path.rmdir()
    assert not removed.is_ours()
    replaced.make()
    path.rmdir()
    touched.make()
    assert not replaced.is_ours()
    os.utime(path, (1, 1))
    assert not touched.is_ours()
    for lock in (removed, replaced, touched):
        lock.remove()
        assert path.is_dir()


def test_a_successor_of_the_same_time_is_not_taken_for_ours(path: Path) -> None:
    """Inode numbers are given out again at once on some file systems."""
    ours = LockDirectory(path)
    ours.make()
    before = path.stat()
    path.rmdir()
    path.mkdir()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not ours.is_ours()
    ours.forget()


@pytest.mark.parametrize("kind", ["file", "link", "dangling", "fifo"])
def test_what_is_no_directory_is_reported_and_left(path: Path, kind: str) -> None:
    if kind == "file":
        path.touch()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(path.parent if kind == "link" else path.with_name("none"))
    with pytest.raises(UnsafeFile, match=f"{path} is not a directory.*rm '{path}'"):
        LockDirectory(path).make()
    path.lstat()


def test_where_none_can_be_made(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match="can't be made: No such file"):
        LockDirectory(tmp_path / "none" / "x.lock").make()


def test_one_that_can_not_be_kept_is_not_left_behind(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(5, "refused")

    monkeypatch.setattr(os, "utime", refuse)
    with pytest.raises(StorageFailed, match="can't be kept: refused"):
        LockDirectory(path).make()
    assert not path.exists()


def test_one_that_can_not_be_removed_is_reported(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lock = LockDirectory(path)
    lock.make()

    def refuse(_: Path) -> None:
        raise OSError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rmdir", refuse)
        lock.remove()
    assert f"the lock {path} can't be removed, so others will wait: Permission denied" in caplog.text
    assert path.is_dir()


def test_a_loss_is_reported_once(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lock = LockDirectory(path)
    lock.make()
    os.utime(path, (1, 1))
    for _ in range(3):
        assert not lock.is_ours()
    lock.remove()
    assert [record.getMessage() for record in caplog.records] == [f"the lock {path} was taken over by another program"]


def test_one_let_go_of_while_it_is_looked_at_is_taken(path: Path) -> None:
    path.mkdir()

    class Late(Disk):
        def status(self, what: Path | int) -> os.stat_result:
            next(late, lambda: None)()
            return super().status(what)

    late = iter([path.rmdir])
    lock = LockDirectory(path, disk=Late())
    assert lock.make() is None
    assert lock.is_ours()
    lock.remove()


def test_only_what_was_seen_is_cleared(path: Path) -> None:
    holder, other = LockDirectory(path), LockDirectory(path)
    holder.make()
    seen = other.make()
    assert seen is not None
    holder.touch()
    assert not other.clear(seen)
    assert holder.is_ours()
    assert other.clear(path.lstat())
    assert not path.exists()
    assert other.clear(seen), "gone is as good as cleared"
    holder.forget()


def test_a_stale_one_with_something_in_it_is_reported(path: Path) -> None:
    path.mkdir()
    (path / "file").touch()
    with pytest.raises(UnsafeFile, match=f"was left behind and can't be removed.*rm -r '{path}'"):
        LockDirectory(path).clear(path.lstat())
    assert (path / "file").exists()
