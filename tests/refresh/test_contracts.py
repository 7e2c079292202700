"""Files and memory keep the contracts of stores, locks and journals."""

import pytest

from contracts import JournalContract, LockContract, Opener, StoreContract
from tokenferry.refresh import FileJournal, Journal, MemoryJournal
from tokenferry.settings import Home
from tokenferry.stores import FileStore, MemoryStore, Store


@pytest.fixture(params=["files", "memory"])
def opener(request: pytest.FixtureRequest, home: Home) -> Opener:
    memory: tuple[Store, Journal] = MemoryStore(), MemoryJournal()
    if request.param == "memory":
        return lambda: memory
    return lambda: (FileStore(home), FileJournal(home.journal))


class TestStore(StoreContract):
    """The store."""


class TestLock(LockContract):
    """Its locks."""


class TestJournal(JournalContract):
    """The journal."""
