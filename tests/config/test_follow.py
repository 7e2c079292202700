import os
import threading
from pathlib import Path
from queue import SimpleQueue

import pytest

from tokenferry.config import Config, Follower, load

GOOD = "[server]\nport = {}\n"


class Followed:
    """A configuration in a file, and whoever follows it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.complaints: list[str] = []
        self.write(GOOD.format(1))
        self.follower = Follower(
            load(path),
            read=lambda: load(path),
            watched=lambda config: (path, *config.files),
            complain=self.complaints.append,
        )

    def write(self, text: str) -> None:
        new = self.path.with_name("new")
        new.touch(0o600)
        new.write_text(text)
        new.replace(self.path)

    def looks(self, times: int = 2) -> list[int]:
        """The ports of what was found in so many looks."""
        return [found.server.port for _ in range(times) if (found := self.follower.look()) is not None]


@pytest.fixture
def followed(tmp_path: Path) -> Followed:
    folder = tmp_path / "home"
    folder.mkdir(0o700)
    return Followed(folder / "config.toml")


def test_what_does_not_change_is_found_never(followed: Followed) -> None:
    assert followed.looks(5) == []


def test_a_change_is_found_once_at_the_second_look(followed: Followed) -> None:
    followed.looks()
    followed.write(GOOD.format(2))
    assert followed.looks(1) == []
    assert followed.looks(1) == [2]
    assert followed.looks(3) == []
    assert followed.follower.current.server.port == 2


def test_what_changed_before_the_first_look_is_found(followed: Followed) -> None:
    followed.write(GOOD.format(2))
    assert followed.looks() == [2]


def test_what_changed_before_the_first_stamps_is_found(followed: Followed) -> None:
    before = followed.follower.current
    followed.write(GOOD.format(2))
    follower = Follower(before, read=lambda: load(followed.path), watched=lambda _: (followed.path,))
    found = follower.look()
    assert found is not None
    assert found.server.port == 2
    assert follower.look() is None


def test_a_file_that_is_being_written_is_waited_for(followed: Followed) -> None:
    followed.looks()
    for text in ("", "[ser", "[server]\npo"):
        followed.write(text)
        assert followed.looks(1) == []
    followed.write(GOOD.format(3))
    assert followed.looks() == [3]
    assert followed.complaints == []


def test_a_bad_file_is_reported_once_with_every_fault_and_the_former_stays(followed: Followed) -> None:
    followed.looks()
    followed.write("[server]\nport = 99999\nworkers = 0\n")
    assert followed.looks(4) == []
    (complaint,) = followed.complaints
    assert "server.port must be" in complaint
    assert "server.workers must be" in complaint
    assert followed.follower.current.server.port == 1
    followed.write(GOOD.format(4))
    assert followed.looks() == [4]


def test_a_file_that_is_gone_changes_nothing(followed: Followed) -> None:
    followed.looks()
    followed.path.unlink()
    assert followed.looks(4) == []
    assert followed.follower.reread() is None
    assert ["is gone" in complaint for complaint in followed.complaints] == [True, True]
    followed.write(GOOD.format(5))
    assert followed.looks() == [5]


def test_a_file_that_appears_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "home" / "config.toml"
    path.parent.mkdir(0o700)
    follower = Follower(Config(), read=lambda: load(path), watched=lambda _: (path,))
    assert [follower.look(), follower.look()] == [None, None]
    path.touch(0o600)
    path.write_text(GOOD.format(6))
    follower.look()
    found = follower.look()
    assert found is not None
    assert found.server.port == 6


def test_files_that_it_names_count_as_part_of_it(followed: Followed) -> None:
    key = followed.path.with_name("idp.key")
    key.touch(0o600)
    key.write_text("sk-ant-api03-aaaaaaaaaaaaaaaa")
    followed.write(
        f'{GOOD.format(1)}[[providers]]\nname = "idp"\nbase_url = "https://x.example"\napi_key = "idp.key"\n'
    )
    followed.looks()
    before = followed.follower.current.keys["idp"]
    key.write_text("sk-ant-api03-bbbbbbbbbbbbbbbb")
    assert followed.looks() == [1]
    assert followed.follower.current.keys["idp"] != before


def test_asking_finds_it_again_though_nothing_changed(followed: Followed) -> None:
    followed.looks()
    assert followed.follower.reread() == followed.follower.current


def test_in_the_background_it_answers_a_storm_of_questions_and_ends(followed: Followed) -> None:
    ports: SimpleQueue[int] = SimpleQueue()
    with followed.follower.in_background(lambda config: ports.put(config.server.port), looks=False):
        followed.write(GOOD.format(7))
        for _ in range(1000):
            followed.follower.ask()
        assert ports.get(timeout=60) == 7
        followed.write(GOOD.format(8))
        followed.follower.ask()
        while ports.get(timeout=60) != 8:
            pass


def test_in_the_background_it_looks_by_itself(followed: Followed) -> None:
    arrived = threading.Event()
    with followed.follower.in_background(lambda config: arrived.set() if config.server.port == 9 else None):
        followed.write(GOOD.format(9))
        assert arrived.wait(60)


def test_a_defect_in_reading_does_not_end_it(followed: Followed, caplog: pytest.LogCaptureFixture) -> None:
    arrived = threading.Event()
    defects = [RuntimeError("oops")]

    def read() -> Config:
        if defects:
            raise defects.pop()
        return load(followed.path)

    follower = Follower(load(followed.path), read=read, watched=lambda _: ())
    with follower.in_background(lambda _: arrived.set(), looks=False):
        follower.ask()
        while defects:
            os.sched_yield()
        follower.ask()
        assert arrived.wait(60)
