"""A refresh token that works once is not presented where its successor could not be written."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tokenferry.claude_code import ClaudeCodeHome
from tokenferry.claude_code._file import CredentialsFile
from tokenferry.errors import StorageFailed
from tokenferry.stores import FileStore, _replaceable, check_replaceable


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a folder" / "work.json"
    path.parent.mkdir(mode=0o700)
    path.write_text("{}")
    return path


def space(monkeypatch: pytest.MonkeyPatch, **changes: int) -> None:
    given = {"f_flag": 0, "f_bfree": 10**6, "f_bavail": 10**6, "f_frsize": 4096, "f_files": 100, "f_ffree": 50}
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(**given | changes))


def refused(path: Path, **given: Any) -> str:
    before = sorted(path.parent.iterdir()), path.read_text()
    with pytest.raises(StorageFailed) as caught:
        check_replaceable(path, **given)
    assert (sorted(path.parent.iterdir()), path.read_text()) == before, "nothing is written"
    assert str(caught.value).startswith(f"{path} can't be replaced: ")
    return str(caught.value)


def test_an_ordinary_file_and_one_that_is_not_there_yet_can_be_replaced(file: Path, tmp_path: Path) -> None:
    check_replaceable(file)
    check_replaceable(file.with_name("other.json"))
    check_replaceable(tmp_path / "no such folder" / "work.json")


def test_a_file_that_is_a_mount_point_of_the_same_file_system_is_refused(file: Path, tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    line = "36 35 98:0 /host.json {} rw,noatime master:1 - ext4 /dev/root rw\n"
    table.write_text(line.format(str(file.parent).replace(" ", r"\040")) + "nonsense\n")
    check_replaceable(file, mount_table=table)
    table.write_text(line.format(str(file).replace(" ", r"\040")))
    assert f"mount its folder {file.parent} instead" in refused(file, mount_table=table)
    check_replaceable(file, mount_table=tmp_path / "absent")


def test_a_mount_behind_a_linked_folder_is_found(file: Path, tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text("36 35 98:0 / {} rw - ext4 x rw\n".format(str(file).replace(" ", r"\040")))
    (tmp_path / "link").symlink_to(file.parent)
    assert "mount point" in refused(tmp_path / "link" / file.name, mount_table=table)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"f_flag": os.ST_RDONLY}, "read-only; mount it writable"),
        ({"f_bfree": 3, "f_bavail": 3}, "no room for a temporary file"),
        ({"f_ffree": 0}, "no room for a temporary file"),
    ],
)
def test_a_file_system_that_takes_no_file_is_refused(
    file: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, int], words: str
) -> None:
    space(monkeypatch, **changes)
    assert words in refused(file)


def test_a_file_system_without_inode_counts_has_room(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space(monkeypatch, f_files=0, f_ffree=0)
    check_replaceable(file)


@pytest.mark.parametrize("which", ["file", "folder"])
@pytest.mark.parametrize("flag", [0x10, 0x20])
def test_an_immutable_file_or_folder_is_refused(
    file: Path, monkeypatch: pytest.MonkeyPatch, which: str, flag: int
) -> None:
    place = file if which == "file" else file.parent
    monkeypatch.setattr(_replaceable, "_flags", lambda path: flag if path == place else 0)
    assert f"chattr -i -a '{place}'" in refused(file)


def test_another_users_sticky_folder_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.parent.chmod(0o1777)
    monkeypatch.setattr(os, "geteuid", lambda: file.stat().st_uid + 1)
    assert "its folder is sticky" in refused(file)


def test_both_documents_of_refresh_tokens_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the home, and Claude Code's file before its locks are given."""
    from tokenferry.settings import Home  # noqa: PLC0415

    home = Home(tmp_path / "home")
    home.accounts.mkdir(parents=True, mode=0o700)
    (tmp_path / "claude").mkdir(mode=0o700)
    space(monkeypatch, f_flag=os.ST_RDONLY)
    with pytest.raises(StorageFailed, match=r"work\.json can't be replaced"):
        FileStore(home).check_replaceable("work")
    with pytest.raises(StorageFailed, match=r"\.credentials\.json can't be replaced"):
        CredentialsFile(ClaudeCodeHome(tmp_path / "claude")).check_writable(100)
