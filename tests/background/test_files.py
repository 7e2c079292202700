import os
from pathlib import Path

from tokenferry.background import FileWatcher, file_stamp


def test_a_change_counts_once_two_looks_in_a_row_find_it(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("one")
    watcher = FileWatcher(lambda: (path,))
    assert watcher.look() == "same"
    path.write_text("one and a half")
    assert watcher.look() == "settling"
    path.write_text("the second one")
    os.utime(path, (1, 1))
    assert watcher.look() == "settling"
    assert watcher.look() == "changed"
    assert watcher.look() == "changed"
    watcher.reset()
    assert watcher.look() == "same"


def test_what_is_absent_is_watched_and_so_is_what_goes(tmp_path: Path) -> None:
    there, absent = tmp_path / "there", tmp_path / "folder" / "absent"
    there.touch()
    watcher = FileWatcher(lambda: (there, absent))
    assert watcher.look() == "same"
    absent.parent.mkdir()
    absent.touch()
    assert [watcher.look(), watcher.look()] == ["settling", "changed"]
    watcher.reset()
    there.unlink()
    assert [watcher.look(), watcher.look()] == ["settling", "changed"]


def test_a_change_that_is_undone_between_two_looks_is_none(tmp_path: Path) -> None:
    path = tmp_path / "absent"
    watcher = FileWatcher(lambda: (path,))
    path.touch()
    assert watcher.look() == "settling"
    path.unlink()
    assert [watcher.look(), watcher.look()] == ["same", "same"]


def test_files_that_are_named_later_are_a_change(tmp_path: Path) -> None:
    paths = [tmp_path / "one"]
    watcher = FileWatcher(lambda: paths)
    paths.append(tmp_path / "two")
    assert watcher.look() == "settling"


def test_a_file_that_is_replaced_by_its_like_has_another_stamp(tmp_path: Path) -> None:
    path, other = tmp_path / "one", tmp_path / "other"
    for one in (path, other):
        one.write_text("text")
        os.utime(one, (1, 1))
    before = file_stamp(path)
    other.replace(path)
    assert before is not None
    assert file_stamp(path) not in {before, None}
    assert file_stamp(tmp_path / "none") is None
