import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from namespaces import namespace
from tokenferry.config import read_content, write_content
from tokenferry.errors import Conflict, StorageFailed
from tokenferry.stores import Disk


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "config.toml"


@pytest.fixture
def locks(tmp_path: Path) -> Path:
    return tmp_path / "home" / "locks"


def test_a_new_file_is_ours_alone(path: Path, locks: Path) -> None:
    old = os.umask(0)
    try:
        write_content(path, b"a", None, locks)
    finally:
        os.umask(old)
    assert read_content(path) == b"a"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_keeps_its_mode(path: Path, locks: Path) -> None:
    write_content(path, b"a", None, locks)
    path.chmod(0o644)
    write_content(path, b"b", b"a", locks)
    assert read_content(path) == b"b"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_later_change_by_another_program_is_not_overwritten(path: Path, locks: Path) -> None:
    write_content(path, b"theirs", None, locks)
    for expected in (None, b"before"):
        with pytest.raises(Conflict):
            write_content(path, b"ours", expected, locks)
    assert read_content(path) == b"theirs"


@pytest.mark.parametrize(("number", "words"), [(errno.EBUSY, "a mount of its own"), (errno.ENOSPC, "No space left")])
def test_a_disk_that_takes_nothing_leaves_the_old_content(path: Path, locks: Path, number: int, words: str) -> None:
    class Refusing(Disk):
        def rename(self, old: Path, new: Path) -> None:
            raise OSError(number, os.strerror(number))

    write_content(path, b"a", None, locks)
    with pytest.raises(StorageFailed, match=words):
        write_content(path, b"b", b"a", locks, disk=Refusing())
    assert read_content(path) == b"a"
    assert {each.name for each in path.parent.iterdir()} == {"config.toml", "locks"}


MOUNTED: str = """
mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && shift && exec "$@"
"""
WRITE = """
import sys, pathlib
from tokenferry.config import write_content
from tokenferry.errors import StorageFailed
try: write_content(pathlib.Path(sys.argv[1]), b"b", b"a", pathlib.Path(sys.argv[2]))
except StorageFailed as fault: print(fault)
"""


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_read_only_mount_is_reported_in_one_sentence(path: Path, locks: Path, what: str) -> None:
    write_content(path, b"a", None, locks)
    mounted = path if what == "file" else path.parent
    alone = namespace("-rm", "sh", "-ec", MOUNTED, "sh", str(mounted))
    command = [sys.executable, "-c", WRITE, str(path), str(locks)]
    run = subprocess.run([*alone, *command], capture_output=True, text=True, check=True)
    assert run.stdout.count("\n") == 1
    assert f"{mounted} is mounted read-only; change it where it comes from" in run.stdout
    assert read_content(path) == b"a"


def test_a_folder_that_others_own_is_reported(path: Path, locks: Path) -> None:
    write_content(path, b"a", None, locks)
    path.parent.chmod(0o500)
    as_others = ["setpriv", "--bounding-set=-dac_override"] if os.access(path.parent, os.W_OK) else []  # as root
    command = [sys.executable, "-c", WRITE, str(path), str(locks)]
    try:
        run = subprocess.run([*as_others, *command], capture_output=True, text=True, check=True)
    finally:
        path.parent.chmod(0o700)
    assert run.stdout.count("\n") == 1
    assert "can't write to" in run.stdout
    assert read_content(path) == b"a"
