"""What tests/conftest.py forbids every test."""

import os
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tokenferry import refresh

OUTSIDE = Path(__file__).with_name("written-by-a-test")


def linked(inside: Path) -> Path:
    """A file in a folder that was one of the test's, until a link took its place."""
    folder = inside / "folder"
    folder.mkdir()
    (folder / OUTSIDE.name).write_text("")
    folder.rename(inside / "moved")
    folder.symlink_to(OUTSIDE.parent)
    return folder / OUTSIDE.name


def moved_link(inside: Path) -> Path:
    link = inside / "link"
    link.symlink_to(OUTSIDE.parent)
    (inside / "other").mkdir()
    (inside / "other" / OUTSIDE.name).write_text("")
    shutil.rmtree(inside / "other")
    link.rename(inside / "other")
    return inside / "other" / OUTSIDE.name


def file_link(inside: Path) -> Path:
    (inside / "file").symlink_to(OUTSIDE)
    return inside / "file"


@pytest.mark.parametrize("place", [lambda _: OUTSIDE, linked, moved_link], ids=["plain", "linked", "moved link"])
@pytest.mark.parametrize(
    "write",
    [
        lambda path, _: path.write_text("x"),
        lambda path, _: path.mkdir(),
        lambda path, _: path.unlink(),
        lambda path, _: path.rmdir(),
        lambda path, _: path.chmod(0o600),
        lambda path, _: os.truncate(path, 0),
        lambda path, inside: path.symlink_to(inside),
        lambda path, inside: path.hardlink_to(inside),
        lambda path, inside: path.rename(inside / "taken"),
        lambda path, inside: inside.rename(path),
    ],
    ids=["open", "mkdir", "unlink", "rmdir", "chmod", "truncate", "symlink", "link", "rename from", "rename to"],
)
def test_no_test_writes_outside_its_folders(
    tmp_path: Path, place: Callable[[Path], Path], write: Callable[[Path, Path], object]
) -> None:
    path = place(tmp_path)
    with pytest.raises(PermissionError, match=r"a test wrote outside its folders: .*written-by-a-test"):
        write(path, tmp_path)


@pytest.mark.parametrize("write", [lambda path: path.write_text("x"), lambda path: os.truncate(path, 0)])
def test_a_link_to_a_file_outside_is_followed_to_be_written_but_may_go(
    tmp_path: Path, write: Callable[[Path], object]
) -> None:
    link = file_link(tmp_path)
    with pytest.raises(PermissionError, match="written-by-a-test"):
        write(link)
    link.unlink()


def test_what_is_removed_by_its_name_in_an_open_folder_is_looked_up_there(tmp_path: Path) -> None:
    (tmp_path / "tree" / "branch").mkdir(parents=True)
    (tmp_path / "tree" / "branch" / "leaf").write_text("")
    shutil.rmtree(tmp_path / "tree")
    folder = os.open(OUTSIDE.parent, os.O_RDONLY)
    try:
        with pytest.raises(PermissionError, match="written-by-a-test"):
            os.unlink(OUTSIDE.name, dir_fd=folder)
    finally:
        os.close(folder)


def test_no_test_reaches_for_the_network() -> None:
    with socket.socket() as one, pytest.raises(PermissionError, match="a test reached for the network"):
        one.connect(("192.0.2.1", 80))


@pytest.mark.anyio
async def test_no_code_of_ours_blocks_a_loop() -> None:
    sleep = eval(compile("lambda: time.sleep(0)", refresh.__file__, "eval"), {"time": time})
    with pytest.raises(Exception, match=r"Blocking call to time\.sleep"):
        sleep()
