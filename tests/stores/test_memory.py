import threading

import pytest
from msgspec.structs import replace

from tokenferry.credentials import ApiKey
from tokenferry.errors import Conflict, LockTimeout, UnknownAccount
from tokenferry.secret import Secret
from tokenferry.stores import Account, Document, MemoryStore, Store


def document(name: str = "work", key: str = "sk-1") -> Document:
    return Document(Account(name, "anthropic", "api-key"), ApiKey(Secret(key)))


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(document())


def test_it_is_a_store(store: Store) -> None:
    assert store.names() == ["work"]
    assert store.read("work") == document()


def test_an_unknown_account_is_reported(store: MemoryStore) -> None:
    with pytest.raises(UnknownAccount, match="'home' not found"):
        store.read("home")


def test_generations_are_compared_as_on_disk(store: MemoryStore) -> None:
    for expected in (None, 0, 2):
        for new in (document(key="sk-2"), None):
            with pytest.raises(Conflict, match="nothing was written"):
                store.swap("work", expected, new)
    with pytest.raises(Conflict):
        store.swap("home", 1, document("home"))
    store.swap("work", 1, replace(document(key="sk-2"), generation=50))
    assert store.read("work") == replace(document(key="sk-2"), generation=2)
    store.swap("home", None, document("home"))
    assert store.names() == ["home", "work"]
    store.swap("home", 1, None)
    store.swap("home", None, None)
    assert store.names() == ["work"]


def test_a_stamp_changes_with_its_document_alone(store: MemoryStore) -> None:
    store.swap("home", None, document("home"))
    before = store.stamps()
    store.swap("work", 1, document(key="sk-2"))
    after = store.stamps()
    assert after["work"] != before["work"]
    assert after["home"] == before["home"]


def test_a_document_that_was_removed_and_made_again_is_another_one(store: MemoryStore) -> None:
    before = store.stamps()
    store.swap("work", 1, None)
    assert store.stamps() == {}
    store.swap("work", None, document(key="sk-2"))
    assert store.read("work").generation == 1
    assert store.stamps() != before


def test_everything_in_it_can_be_read_so_nothing_is_discarded(store: MemoryStore) -> None:
    with pytest.raises(Conflict):
        store.discard("work")
    assert store.names() == ["work"]


def test_its_locks_exclude_threads(store: MemoryStore) -> None:
    holders: list[str] = []

    def other() -> None:
        with pytest.raises(LockTimeout, match="in use by another thread") as caught:
            store.lock("work").acquire(-1)
        holders.append(caught.value.holder)
        lock = store.lock("home")
        lock.acquire(0)
        lock.release()
        lock.release()

    with store.exclusive("work", 0):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert holders == ["another thread"]
    with store.exclusive("work", 0):
        pass


def test_only_the_holder_of_the_lock_can_release_it(store: MemoryStore) -> None:
    with store.exclusive("work", 0):
        store.lock("work").release()
        with pytest.raises(LockTimeout):
            store.lock("work").acquire(0)
