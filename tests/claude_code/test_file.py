import errno
import os
import re
import shlex
import stat
import subprocess
from pathlib import Path

import pytest

from claude_code.rig import ACCESS, document, write
from leaks import leaks
from tokenferry.claude_code import ClaudeCodeHome, CredentialsFile
from tokenferry.errors import StorageFailed, UnsafeFile
from tokenferry.stores import DISK, Disk


@pytest.fixture
def file(claude: ClaudeCodeHome) -> CredentialsFile:
    return CredentialsFile(claude)


def test_a_missing_file_is_none(file: CredentialsFile) -> None:
    assert file.read() is None
    assert file.stamp() is None


def test_it_is_written_0600_whatever_the_umask(file: CredentialsFile) -> None:
    old = os.umask(0)
    try:
        file.write(b"{}")
    finally:
        os.umask(old)
    assert file.read() == b"{}"
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert list(file.path.parent.iterdir()) == [file.path]


def test_a_write_goes_through_a_file_of_the_name_claude_code_gives_it(claude: ClaudeCodeHome) -> None:
    renamed: list[tuple[Path, Path]] = []

    class Recorder(Disk):
        def rename(self, old: Path, new: Path) -> None:
            renamed.append((old, new))
            super().rename(old, new)

    CredentialsFile(claude, disk=Recorder()).write(b"{}")
    ((old, new),) = renamed
    assert re.fullmatch(re.escape(str(new)) + r"\.tmp\.[0-9a-f]{8}", str(old))
    assert new == claude.credentials


def test_the_stamp_changes_with_every_write(file: CredentialsFile) -> None:
    stamps = set()
    for _ in range(3):
        file.write(b"{}")
        stamps.add(file.stamp())
    assert len(stamps) > 1
    assert file.stamp() in stamps


def test_a_symbolic_link_is_refused_and_the_cure_cures(file: CredentialsFile, tmp_path: Path) -> None:
    target = tmp_path / "dot files" / "credentials"
    target.parent.mkdir(mode=0o700)
    write(target, document())
    file.path.symlink_to(target)
    for attempt in (file.read, lambda: file.write(b"{}"), lambda: file.check_writable(1)):
        with pytest.raises(UnsafeFile, match="is a symbolic link") as caught:
            attempt()
    assert target.read_bytes() == document()
    cure = str(caught.value).partition("with: ")[2]
    subprocess.run(shlex.split(cure), check=True)
    assert file.read() == document()


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o606])
def test_a_file_that_others_can_read_or_write_is_refused(file: CredentialsFile, mode: int) -> None:
    write(file.path, document())
    file.path.chmod(mode)
    with pytest.raises(UnsafeFile, match="chmod 0600"):
        file.read()


def test_a_fifo_is_refused_without_a_hang(file: CredentialsFile) -> None:
    os.mkfifo(file.path, 0o600)
    with pytest.raises(UnsafeFile, match="not a regular file"):
        file.read()


def test_a_folder_that_others_can_write_to_is_refused(file: CredentialsFile) -> None:
    write(file.path, document())
    file.path.parent.chmod(0o777)
    with pytest.raises(UnsafeFile, match="chmod 0755"):
        file.read()


@pytest.mark.parametrize("step", ["create", "write", "fsync", "rename"])
def test_a_full_disk_leaves_the_old_content_and_nothing_else(claude: ClaudeCodeHome, step: str) -> None:
    write(claude.credentials, b"{}")

    class Full(Disk):
        pass

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    setattr(Full, step, fail)
    with pytest.raises(StorageFailed, match=r"No space left.*the old content is unchanged") as caught:
        CredentialsFile(claude, disk=Full()).write(document())
    assert claude.credentials.read_bytes() == b"{}"
    assert list(claude.path.iterdir()) == [claude.credentials]
    assert leaks(caught.value, ACCESS) == []


def test_what_killed_writers_left_goes_once_it_is_old(file: CredentialsFile) -> None:
    old, young, other = (
        file.path.with_name(f"{file.path.name}{end}") for end in (".tmp.0123abcd", ".tmp.89efaaaa", ".bak")
    )
    for path in (old, young, other):
        write(path, document())
        if path is not young:
            os.utime(path, (1, 1))
    file.write(b"{}")
    assert (old.exists(), young.exists(), other.exists()) == (False, True, True)


def test_that_the_folder_can_not_be_synced_is_no_reason_to_write_again(claude: ClaudeCodeHome) -> None:
    class Unsynced(Disk):
        def sync_folder(self, path: Path) -> None:
            raise OSError(errno.EIO, "no")

    CredentialsFile(claude, disk=Unsynced()).write(b"{}")
    assert DISK.read(claude.credentials) == b"{}"
