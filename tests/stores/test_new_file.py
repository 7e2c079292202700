import stat
import threading
from pathlib import Path

import pytest

from leaks import leaks
from tokenferry.errors import StorageFailed, UnsafeFile, UsageError
from tokenferry.stores import Disk, create_private_file

SECRET = "sk-ant-ort01-Aiwoo3ohkuY0Shohg5ooch9eephai7Ai"
CONTENT = SECRET.encode()


def test_the_file_is_there_whole_and_private(tmp_path: Path) -> None:
    path = tmp_path / "made" / "too" / "secret"
    create_private_file(path, CONTENT)
    assert path.read_bytes() == CONTENT
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_nlink == 1
    assert [one.name for one in path.parent.iterdir()] == ["secret"]


def test_nothing_is_ever_written_over(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("mine")
    with pytest.raises(UsageError, match="exists already") as caught:
        create_private_file(path, CONTENT)
    assert path.read_text() == "mine"
    assert not leaks(caught.value, SECRET)
    assert [one.name for one in tmp_path.iterdir() if "secret" in one.name] == ["secret"]


def test_of_many_at_once_one_makes_it(tmp_path: Path) -> None:
    path, made = tmp_path / "secret", []

    def make(number: int) -> None:
        try:
            create_private_file(path, b"%d" % number)
            made.append(number)
        except UsageError:
            pass

    threads = [threading.Thread(target=make, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert path.read_bytes() == b"%d" % made[0]


def test_a_folder_that_others_can_write_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(UnsafeFile, match="chmod 0755"):
        create_private_file(folder / "secret", CONTENT)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("step", ["create", "write", "fsync"])
def test_a_full_disk_leaves_nothing_and_says_so(tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk()

    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk, step, full)
    with pytest.raises(StorageFailed, match="No space left") as caught:
        create_private_file(tmp_path / "secret", CONTENT, disk=disk)
    assert [one.name for one in tmp_path.iterdir() if "secret" in one.name] == []
    assert not leaks(caught.value, SECRET)
