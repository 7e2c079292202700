import errno
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from leaks import leaks
from tokenferry.errors import StorageFailed, UnsafeFile
from tokenferry.stores import (
    Disk,
    check_folder,
    check_status,
    make_private_folder,
    read_private_file,
    remove_file,
    remove_leftovers,
    replace_private_file,
)

SECRET = "sk-ant-ort01-Aiwoo3ohkuY0Shohg5ooch9eephai7Ai"
CONTENT = SECRET.encode() + b"\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "private"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def file(folder: Path) -> Path:
    path = folder / "secret"
    replace_private_file(path, CONTENT)
    return path


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o777], ids="umask {:04o}".format)
def any_umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# -- reading


def test_what_was_written_is_read(file: Path) -> None:
    assert read_private_file(file) == CONTENT


def test_a_missing_file_or_folder_is_not_found(folder: Path) -> None:
    for path in (folder / "none", folder / "no" / "folder" / "none"):
        with pytest.raises(FileNotFoundError):
            read_private_file(path)


def refused(path: Path, **options: Any) -> str:
    """The refusal's text, which names the path; the file and its mode stay as they are."""
    before = path.lstat()
    with pytest.raises(UnsafeFile) as caught:
        read_private_file(path, **options)
    assert str(path) in str(caught.value)
    assert (path.lstat().st_mode, path.lstat().st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
    assert not leaks(caught.value, SECRET)
    return str(caught.value)


def test_a_symlink_is_refused(file: Path) -> None:
    link = file.with_name("link")
    link.symlink_to(file)
    assert "symbolic link" in refused(link)
    dangling = file.with_name("dangling")
    dangling.symlink_to(file.with_name("none"))
    assert "symbolic link" in refused(dangling)


def test_a_fifo_is_refused_and_not_waited_for(folder: Path) -> None:
    fifo = folder / "fifo"
    os.mkfifo(fifo, 0o600)
    assert "not a regular file" in refused(fifo)


def test_a_folder_in_its_place_is_refused_and_leaves_no_descriptor_open(folder: Path) -> None:
    place = folder / "place"
    place.mkdir(mode=0o700)
    before = len(names(Path("/proc/self/fd")))
    for _ in range(5):
        assert "not a regular file" in refused(place)
    assert len(names(Path("/proc/self/fd"))) == before


def test_a_device_is_refused() -> None:
    with pytest.raises(UnsafeFile, match="not a regular file"):
        read_private_file(Path("/dev/null"))


@pytest.mark.parametrize("bits", [0o601, 0o602, 0o604, 0o610, 0o620, 0o640, 0o644, 0o660, 0o777])
def test_a_mode_that_lets_others_in_is_refused_with_the_fix(file: Path, bits: int) -> None:
    file.chmod(bits)
    text = refused(file)
    assert f"mode {bits:04o}" in text
    assert text.endswith(f"chmod 0600 '{file}'")


@pytest.mark.parametrize("bits", [0o600, 0o400, 0o700])
def test_a_mode_that_is_ours_alone_will_do(file: Path, bits: int) -> None:
    file.chmod(bits)
    assert read_private_file(file) == CONTENT


@pytest.mark.parametrize(("bits", "mended"), [(0o664, "0644"), (0o646, "0644"), (0o622, "0600")])
def test_what_others_may_read_they_must_not_write(file: Path, bits: int, mended: str) -> None:
    file.chmod(bits)
    assert refused(file, readable_by_others=True).endswith(f"chmod {mended} '{file}'")
    file.chmod(0o644)
    assert read_private_file(file, readable_by_others=True) == CONTENT


@pytest.fixture
def another_user(monkeypatch: pytest.MonkeyPatch) -> int:
    """The tests go on as somebody who owns none of the files."""
    uid = os.geteuid() + 4321
    monkeypatch.setattr("os.geteuid", lambda: uid)
    return uid


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_another_owner_is_refused(file: Path) -> None:
    os.chown(file, 4321, -1)
    assert refused(file).endswith(f"belongs to user 4321; fix it with: chown {os.geteuid()} '{file}'")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders away")
def test_a_folder_of_another_owner_is_refused(file: Path) -> None:
    os.chown(file.parent, 4321, -1)
    with pytest.raises(UnsafeFile, match=re.escape(f"the folder {file.parent} belongs to user 4321")):
        read_private_file(file)


def test_an_owner_that_is_not_us_is_refused(file: Path, another_user: int) -> None:
    file.parent.chmod(0o755)
    with pytest.raises(UnsafeFile, match="belongs to user"):
        read_private_file(file)


@pytest.mark.parametrize("bits", [0o770, 0o720, 0o702, 0o777])
def test_a_folder_in_which_others_could_replace_files_is_refused(file: Path, bits: int) -> None:
    file.parent.chmod(bits)
    with pytest.raises(UnsafeFile) as caught:
        read_private_file(file)
    text = str(caught.value)
    assert f"the folder {file.parent} has mode {bits:04o}" in text
    assert text.endswith(f"chmod {bits & ~0o022:04o} '{file.parent}'")
    assert mode(file.parent) == bits
    with pytest.raises(UnsafeFile):
        make_private_folder(file.parent)
    with pytest.raises(UnsafeFile):
        replace_private_file(file, b"new")
    assert file.read_bytes() == CONTENT


def test_a_folder_of_all_users_is_refused_and_nothing_is_said_of_its_mode(file: Path) -> None:
    file.parent.chmod(0o1777)
    with pytest.raises(UnsafeFile, match=r"is shared with other users; keep the file in a folder of your own$"):
        read_private_file(file)


def test_a_folder_that_is_not_there_yet_is_no_danger(folder: Path) -> None:
    check_folder(folder / "none")


def test_a_folder_below_a_file_is_reported(file: Path) -> None:
    with pytest.raises(UnsafeFile, match="can't be examined: Not a directory"):
        check_folder(file / "x")
    with pytest.raises(UnsafeFile, match="can't be opened: Not a directory"):
        read_private_file(file / "x")


def test_a_file_that_is_too_large_is_refused_unread(file: Path) -> None:
    assert "larger than 10 bytes" in refused(file, max_bytes=10)
    assert read_private_file(file, max_bytes=len(CONTENT)) == CONTENT


def test_a_disk_that_fails_to_read_is_reported(folder: Path) -> None:
    with pytest.raises(UnsafeFile, match="/proc/self/mem can't be read: Input/output error"):
        read_private_file(Path("/proc/self/mem"))


def test_bytes_that_were_read_are_not_shown(file: Path) -> None:
    data = read_private_file(file)
    assert repr(data) == str(data) == f"<{len(CONTENT)} bytes>"


# -- writing


def test_a_file_is_private_from_its_first_moment_whatever_the_umask(
    folder: Path, any_umask: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    really_open = os.open

    def spy(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        descriptor = really_open(path, flags, *rest, **options)
        if flags & os.O_CREAT:
            assert flags & os.O_EXCL
            seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return descriptor

    monkeypatch.setattr("os.open", spy)
    replace_private_file(folder / "secret", CONTENT)
    assert seen
    assert not [bits for bits in seen if bits & 0o177]
    assert mode(folder / "secret") == 0o600
    assert read_private_file(folder / "secret") == CONTENT


def test_folders_are_private_whatever_the_umask(folder: Path, any_umask: None) -> None:
    make_private_folder(folder / "a" / "b" / "c")
    assert {mode(folder / name) for name in ("a", "a/b", "a/b/c")} == {0o700}
    make_private_folder(folder / "a" / "b" / "c")


def test_a_folder_that_can_not_be_made_is_reported(file: Path) -> None:
    with pytest.raises(StorageFailed, match=re.escape(f"the folder {file}/x/y can't be made: Not a directory")):
        make_private_folder(file / "x" / "y")


def test_what_lies_there_is_replaced_and_not_written_through(file: Path, folder: Path) -> None:
    """A symlink, or a file that is too open, is put aside: what it led to keeps its content."""
    link = folder / "link"
    link.symlink_to(file)
    replace_private_file(link, b"new")
    assert not link.is_symlink()
    assert (link.read_bytes(), file.read_bytes()) == (b"new", CONTENT)
    file.chmod(0o666)
    replace_private_file(file, b"newer")
    assert mode(file) == 0o600


class FailingDisk(Disk):
    """A real disk on which one operation fails."""

    def __init__(self, operation: str, number: int) -> None:
        self._failure = OSError(number, os.strerror(number))
        really = getattr(self, operation)

        def fail(*arguments: Any) -> None:
            if operation == "write":
                really(arguments[0], arguments[1][: len(arguments[1]) // 2])
            if operation == "close":
                really(*arguments)
            raise self._failure

        setattr(self, operation, fail)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT], ids=errno.errorcode.get)
@pytest.mark.parametrize("operation", ["create", "write", "fsync", "close", "rename"])
def test_a_disk_that_refuses_leaves_the_old_content_and_nothing_else(file: Path, operation: str, number: int) -> None:
    with pytest.raises(StorageFailed) as caught:
        replace_private_file(file, b"new " + CONTENT, disk=FailingDisk(operation, number))
    cure = " (mount it writable, or name another home with TOKENFERRY_HOME)" if number == errno.EROFS else ""
    assert (
        str(caught.value) == f"{file} could not be written: {os.strerror(number)}{cure}; the old content is unchanged"
    )
    assert not leaks(caught.value, SECRET)
    assert names(file.parent) == [file.name]
    assert read_private_file(file) == CONTENT


def test_a_rename_that_may_not_last_is_reported(file: Path) -> None:
    with pytest.raises(StorageFailed, match="is written, but may be the old one again after a power cut"):
        replace_private_file(file, b"new", disk=FailingDisk("sync_folder", errno.EIO))
    assert read_private_file(file) == b"new"


def test_the_content_is_synced_before_it_is_put_in_place_and_the_folder_after(folder: Path) -> None:
    steps: list[str] = []

    class Recording(Disk):
        def __getattribute__(self, name: str) -> Any:
            value = super().__getattribute__(name)
            if callable(value):
                steps.append(name)
            return value

    replace_private_file(folder / "secret", CONTENT, disk=Recording())
    assert steps == ["make_folder", "create", "write", "fsync", "close", "rename", "sync_folder"]


def test_a_write_that_takes_a_part_is_continued(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really: Callable[[int, Any, int], int] = os.pwrite
    monkeypatch.setattr("os.pwrite", lambda descriptor, data, offset: really(descriptor, data[:3], offset))
    replace_private_file(folder / "secret", CONTENT)
    assert read_private_file(folder / "secret") == CONTENT


# -- removing and listing


def test_removing_twice_is_fine(file: Path) -> None:
    remove_file(file)
    assert not file.exists()
    remove_file(file)


def test_what_can_not_be_removed_is_reported(file: Path) -> None:
    with pytest.raises(StorageFailed, match=re.escape(f"{file.parent} could not be removed: Is a directory")):
        remove_file(file.parent)
    with pytest.raises(StorageFailed, match="could not be removed: Read-only"):
        remove_file(file, disk=FailingDisk("unlink", errno.EROFS))


def test_leftovers_of_this_file_alone_are_removed(file: Path) -> None:
    several = [f".{file.name}.tmp.0123abcd", f".{file.name}.tmp.", ".other.tmp.0123abcd", f"{file.name}.tmp.x", ".keep"]
    for name in several:
        file.with_name(name).touch()
    remove_leftovers(file)
    assert names(file.parent) == sorted([file.name, *several[2:]])


def test_a_missing_folder_has_no_names_and_no_stamps(folder: Path) -> None:
    assert Disk().names(folder / "none") == []
    assert Disk().stamps(folder / "none") == {}


def test_what_is_no_folder_can_not_be_listed(file: Path) -> None:
    with pytest.raises(StorageFailed, match="can't be listed: Not a directory"):
        Disk().names(file)


def test_a_stamp_changes_with_content_mode_and_presence(file: Path) -> None:
    disk = Disk()
    before = disk.stamps(file.parent)
    assert before == disk.stamps(file.parent)
    replace_private_file(file, CONTENT)
    replaced = disk.stamps(file.parent)
    assert replaced.keys() == before.keys()
    assert replaced != before
    file.chmod(0o644)
    assert disk.stamps(file.parent) != replaced
    file.unlink()
    assert disk.stamps(file.parent) == {}


def test_a_file_that_goes_while_stamps_are_taken_takes_no_other_with_it(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = os.scandir
    gone = file.with_name(".gone")

    class Scan:
        def __init__(self, folder: Path) -> None:
            gone.touch()
            self._entries = list(really(folder))
            gone.unlink()

        def __enter__(self) -> Iterator[os.DirEntry[str]]:
            return iter(self._entries)

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr("os.scandir", Scan)
    assert list(Disk().stamps(file.parent)) == [file.name]


def test_what_holds_no_secret_may_belong_to_root(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a configuration does that is mounted into a container."""
    status = os.stat_result((0o100644, 1, 1, 1, 0, 0, 1, 0, 0, 0))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    check_status(file, status, readable_by_others=True)
    with pytest.raises(UnsafeFile, match="belongs to user 0"):
        check_status(file, status)
    other = os.stat_result((0o100644, 1, 1, 1, 1001, 0, 1, 0, 0, 0))
    with pytest.raises(UnsafeFile, match="belongs to user 1001"):
        check_status(file, other, readable_by_others=True)
