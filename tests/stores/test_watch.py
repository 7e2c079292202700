import gc
import subprocess
import sys
import threading
from collections.abc import Hashable, Iterator
from queue import Queue
from weakref import ref

import pytest

from tokenferry.credentials import ApiKey
from tokenferry.errors import StorageFailed
from tokenferry.secret import Secret
from tokenferry.settings import Home
from tokenferry.stores import Account, Document, FileStore, Watch

TICK = 0.005
LONG = 30.0


class Watched:
    """A store's stamps, and what a watch reported of them."""

    def __init__(self) -> None:
        self.stamps: dict[str, Hashable] = {"work": 1}
        self.failure: Exception | None = None
        self.reported: Queue[frozenset[str]] = Queue()
        self.looks = threading.Semaphore(0)

    def look(self) -> dict[str, Hashable]:
        self.looks.release()
        if self.failure is not None:
            raise self.failure
        return dict(self.stamps)

    def wait_for_looks(self, number: int) -> None:
        while self.looks.acquire(blocking=False):
            pass
        for _ in range(number):
            assert self.looks.acquire(timeout=LONG)


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.fixture
def watch(watched: Watched) -> Iterator[Watch]:
    watch = Watch(watched.look, TICK, watched.reported.put)
    watch.ensure_running()
    yield watch
    watch.stop()


def test_changed_new_and_removed_documents_are_reported(watched: Watched, watch: Watch) -> None:
    watched.stamps = {"work": 2}
    assert watched.reported.get(timeout=LONG) == {"work"}
    watched.stamps = {"work": 2, "home": 1}
    assert watched.reported.get(timeout=LONG) == {"home"}
    watched.stamps = {"home": 1}
    assert watched.reported.get(timeout=LONG) == {"work"}
    watched.stamps = {"home": 2, "work": 1, "new": 1}
    assert watched.reported.get(timeout=LONG) == {"home", "work", "new"}


def test_what_stays_the_same_is_not_reported(watched: Watched, watch: Watch) -> None:
    watched.wait_for_looks(3)
    assert watched.reported.empty()


def test_a_store_that_can_not_be_looked_at_is_no_news(watched: Watched, watch: Watch) -> None:
    for failure in (PermissionError(13, "Permission denied"), StorageFailed("gone"), ValueError("odd")):
        watched.failure = failure
        watched.wait_for_looks(3)
        assert watched.reported.empty()
    watched.stamps = {"work": 2}
    watched.failure = None
    assert watched.reported.get(timeout=LONG) == {"work"}


def test_a_store_that_could_not_be_looked_at_from_the_start_is_all_news_later(watched: Watched) -> None:
    watched.failure = FileNotFoundError(2, "No such file")
    watch = Watch(watched.look, TICK, watched.reported.put)
    watch.ensure_running()
    watched.failure = None
    assert watched.reported.get(timeout=LONG) == {"work"}
    watch.stop()


def watching() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "tokenferry-watch"]


def test_one_thread_watches_however_often_it_is_asked_for(watched: Watched) -> None:
    before = set(watching())
    watch = Watch(watched.look, TICK, watched.reported.put)
    assert set(watching()) <= before
    starters = [threading.Thread(target=watch.ensure_running) for _ in range(8)]
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join()
    assert len(set(watching()) - before) == 1
    assert all(thread.daemon for thread in watching())
    watch.stop()


def test_it_stops_when_asked(watched: Watched, watch: Watch) -> None:
    thread = watch._thread._thread
    assert thread is not None
    watch.stop()
    thread.join(LONG)
    assert not thread.is_alive()


def test_it_stops_when_it_is_no_longer_held(watched: Watched) -> None:
    watch = Watch(watched.look, TICK, watched.reported.put)
    watch.ensure_running()
    thread, reference = watch._thread._thread, ref(watch)
    assert thread is not None
    watched.wait_for_looks(3)
    del watch
    for _ in range(1000):  # the thread itself holds it for moments
        gc.collect()
        if reference() is None:
            break
        thread.join(TICK)
    assert reference() is None
    thread.join(LONG)
    assert not thread.is_alive()


def test_real_files_are_watched(home: Home) -> None:
    store = FileStore(home)
    reported: Queue[frozenset[str]] = Queue()
    watch = Watch(store.stamps, TICK, reported.put)
    watch.ensure_running()
    document = Document(Account("work", "anthropic", "api-key"), ApiKey(Secret("sk-1")))
    store.swap("work", None, document)
    assert reported.get(timeout=LONG) == {"work"}
    store.swap("work", 1, document)
    assert reported.get(timeout=LONG) == {"work"}
    store.swap("work", 2, None)
    assert reported.get(timeout=LONG) == {"work"}
    watch.stop()


FORK = """
import os, queue
from tokenferry.stores import Watch

stamps, reported = {"work": 1}, queue.Queue()
watch = Watch(lambda: dict(stamps), 0.005, reported.put)
watch.ensure_running()
if os.fork() == 0:
    assert reported.get(timeout=30) == {"work"}, "a child doubts all it knew"
    watch.ensure_running()
    stamps["work"] = 2
    assert reported.get(timeout=30) == {"work"}
    stamps["home"] = 1
    assert reported.get(timeout=30) == {"home"}
    os._exit(7)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
assert reported.empty()
stamps["work"] = 3
assert reported.get(timeout=30) == {"work"}
"""


def test_it_goes_on_in_a_forked_child_and_in_its_parent() -> None:
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], check=True, timeout=60)
