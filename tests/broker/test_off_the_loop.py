"""A store may take seconds to be read, as a Keychain does: no event loop waits for it."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from refresh.rig import NAME, Rig, document, put, token, value, wait_for
from tokenferry.settings import Home
from tokenferry.stores import FileStore


class Slow(FileStore):
    """Notes which threads read it."""

    def __init__(self, home: Home) -> None:
        super().__init__(home)
        self.readers: list[threading.Thread] = []

    def read(self, name: str) -> Any:
        self.readers.append(threading.current_thread())
        return super().read(name)

    def forget(self) -> None:
        self.readers.clear()


@pytest.fixture
def rig(home: Home) -> Iterator[Rig]:
    rig = Rig(home)
    yield rig
    rig.close()


@pytest.fixture
def slow(home: Home) -> Slow:
    return Slow(home)


@pytest.mark.parametrize("name", [NAME, None])
@pytest.mark.parametrize("left", [3600, -10])
def test_a_credential_is_read_by_another_thread_than_the_loops(
    rig: Rig, slow: Slow, left: float, name: str | None
) -> None:
    rig.put(token(left=left))
    assert value(asyncio.run(rig.broker(store=slow).aresolve(name))).startswith("access")
    assert slow.readers
    assert threading.main_thread() not in slow.readers


def test_what_others_change_is_listed_by_the_thread_that_watches(rig: Rig, slow: Slow) -> None:
    rig.put(token(left=3600))
    broker = rig.broker(store=slow)
    assert [account.name for account in broker.accounts()] == [NAME]
    slow.forget()
    put(rig.store, document(token(left=3600), "later"))
    wait_for(lambda: [account.name for account in broker.accounts()] == ["later", NAME])
    assert {thread.name for thread in slow.readers} == {"tokenferry-watch"}


def test_a_refresh_and_a_refusal_do_not_list_again(rig: Rig, slow: Slow) -> None:
    rig.put(token())
    broker = rig.broker(store=slow)
    listing = broker.listing()
    broker.invalidate(NAME, broker.resolve(NAME).secret)
    slow.forget()
    assert [account.name for account in broker.accounts()] == [account.name for account in listing.accounts]
    assert threading.main_thread() not in slow.readers
