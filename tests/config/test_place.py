import os
import stat
from pathlib import Path

import pytest

from tokenferry.config import load, read_content, write_content
from tokenferry.config._effective import examine
from tokenferry.errors import Conflict, UnsafeFile

TEXT = "[server]\nport = 8080\n"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """The file in a folder of dotfiles."""
    path = tmp_path / "dotfiles" / "tokenferry" / "config.toml"
    path.parent.mkdir(mode=0o700, parents=True)
    path.write_text(TEXT)
    path.chmod(0o600)
    return path


@pytest.fixture
def link(tmp_path: Path, target: Path) -> Path:
    path = tmp_path / "home" / "config.toml"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.symlink_to(target)
    return path


def test_a_symbolic_link_is_followed_once(link: Path, target: Path) -> None:
    assert load(link).server.port == examine(link).config.server.port == 8080
    second = link.with_name("second.toml")
    second.symlink_to(link)
    with pytest.raises(UnsafeFile, match="which is one, too"):
        load(second)


def test_a_relative_link_and_folders_that_are_links_are_followed(link: Path, target: Path, tmp_path: Path) -> None:
    link.unlink()
    (tmp_path / "alias").symlink_to("dotfiles")
    link.symlink_to("../alias/tokenferry/config.toml")
    assert load(link).server.port == 8080


def test_a_key_file_is_seen_from_the_folder_of_the_link(link: Path, target: Path) -> None:
    target.write_text('[[providers]]\nname = "anthropic"\napi_key = "key"\n')
    (link.parent / "key").touch(0o600)
    (link.parent / "key").write_text("sk-ant-api03-Eeghoh5aighaeCh4aiz0Iez0quoh9Thee1")
    assert set(load(link, environ={}).keys) == {"anthropic"}


def test_a_link_to_nothing_is_not_taken_for_no_file(link: Path, target: Path) -> None:
    target.unlink()
    with pytest.raises(UnsafeFile, match="doesn't exist"):
        load(link)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_the_mode_of_the_opened_file_is_checked(link: Path, target: Path, mode: int) -> None:
    target.chmod(mode)
    with pytest.raises(UnsafeFile, match="could be written by others"):
        load(link)


@pytest.mark.parametrize("folder", ["home", "dotfiles", "dotfiles/tokenferry", ".", "between"])
def test_every_folder_on_both_ways_is_checked(link: Path, target: Path, tmp_path: Path, folder: str) -> None:
    """Also the folder of a link in the middle."""
    between = tmp_path / "between"
    between.mkdir(mode=0o700)
    (between / "alias").symlink_to(tmp_path / "dotfiles")
    link.unlink()
    link.symlink_to(between / "alias" / "tokenferry" / "config.toml")
    assert load(link).server.port == 8080
    (tmp_path / folder).chmod(0o770)
    with pytest.raises(UnsafeFile, match="has mode 0770, so others could replace"):
        load(link)
    (tmp_path / folder).chmod(0o1777)  # as /tmp is
    if folder not in {"home", "dotfiles/tokenferry"}:
        assert load(link).server.port == 8080


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("which", ["the link", "the file", "a folder"])
def test_what_belongs_to_another_user_is_refused(link: Path, target: Path, which: str) -> None:
    place = {"the link": link, "the file": target, "a folder": target.parent.parent}[which]
    os.chown(place, 12345, -1, follow_symlinks=False)
    with pytest.raises(UnsafeFile, match="12345"):
        load(link)


def test_it_is_written_where_it_lies_and_the_link_stays(link: Path, target: Path, tmp_path: Path) -> None:
    locks = tmp_path / "home" / "locks"
    target.chmod(0o644)
    write_content(link, b"[server]\n", TEXT.encode(), locks)
    assert link.is_symlink()
    assert read_content(link) == target.read_bytes() == b"[server]\n"
    assert stat.S_IMODE(target.stat().st_mode) == 0o644
    assert list(target.parent.iterdir()) == [target]
    with pytest.raises(Conflict):
        write_content(link, b"x", TEXT.encode(), locks)
    target.parent.chmod(0o777)
    with pytest.raises(UnsafeFile):
        write_content(link, b"x", b"[server]\n", locks)
    assert target.read_bytes() == b"[server]\n"
