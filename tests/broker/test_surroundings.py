"""What a broker stands on: documents that others change, stores of any kind, and the default one."""

import asyncio
import contextlib
import threading
from collections.abc import Hashable, Iterator, Mapping

import pytest
from msgspec.structs import replace

import tokenferry
from refresh.rig import (
    LIFETIME,
    NAME,
    PATIENCE,
    PROVIDERS,
    Clock,
    Endpoint,
    Rig,
    document,
    put,
    token,
    value,
    wait_for,
)
from tokenferry.broker import Broker, default_broker
from tokenferry.credentials import ApiKey
from tokenferry.errors import (
    Conflict,
    UnknownAccount,
    UsageError,
)
from tokenferry.secret import Secret
from tokenferry.settings import Home
from tokenferry.stores import Account, Document, FileStore, MemoryStore


@pytest.fixture
def rig(home: Home) -> Iterator[Rig]:
    rig = Rig(home)
    yield rig
    rig.close()


# -- changes made by others


def test_a_relogin_a_removal_and_a_new_account_by_another_process_count_within_a_second(rig: Rig) -> None:
    rig.put(token(left=3600))
    broker = rig.broker()
    assert value(broker.resolve(NAME)) == "access-0"
    assert [account.name for account in broker.accounts()] == [NAME]
    rig.put(token(left=3600, number=3))
    wait_for(lambda: value(broker.resolve(NAME)) == "access-3")
    rig.put(token(left=3600, number=4), "later")
    wait_for(lambda: [account.name for account in broker.accounts()] == ["later", NAME])
    rig.store.swap(NAME, rig.store.read(NAME).generation, None)
    wait_for(lambda: _is_unknown(broker))
    wait_for(lambda: [account.name for account in broker.accounts()] == ["later"])
    assert value(broker.resolve()) == "access-4"


def _is_unknown(broker: Broker) -> bool:
    try:
        broker.resolve(NAME)
    except UnknownAccount:
        return True
    return False


def test_the_account_in_use_changed_by_another_process_counts(rig: Rig) -> None:
    rig.put(token(left=3600))
    rig.put(token(left=3600, number=2), "second")
    broker, other = rig.broker(), rig.broker()
    other.book.use(NAME)
    assert value(broker.resolve()) == "access-0"
    other.book.use("second")
    wait_for(lambda: value(broker.resolve()) == "access-2")


# -- other stores


class DictStore:
    """Sealed-looking bytes in a dict: the least that the protocol asks for."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.locks: dict[str, threading.Lock] = {}

    def names(self) -> list[str]:
        return sorted(self.kept)

    def read(self, name: str) -> Document:
        if name not in self.kept:
            raise UnknownAccount(f"no account {name!r}")
        return Document.from_bytes(self.kept[name], name, f"memory/{name}")

    def swap(self, name: str, expected: int | None, new: Document | None) -> None:
        found = self.read(name).generation if name in self.kept else None
        if found != expected:
            raise Conflict(name)
        if new is None:
            del self.kept[name]
        else:
            self.kept[name] = replace(new, generation=(expected or 0) + 1).to_bytes()

    def discard(self, name: str) -> None:
        del self.kept[name]

    def lock(self, name: str) -> "DictLock":
        return DictLock(self.locks.setdefault(name, threading.Lock()))

    @contextlib.contextmanager
    def exclusive(self, name: str, timeout: float) -> Iterator[None]:
        lock = self.lock(name)
        lock.acquire(timeout)
        try:
            yield
        finally:
            lock.release()

    def stamps(self) -> Mapping[str, Hashable]:
        return dict(self.kept)


class DictLock:
    def __init__(self, lock: threading.Lock) -> None:
        self.lock = lock

    def acquire(self, timeout: float) -> None:
        assert self.lock.acquire(timeout=timeout)

    def is_still_ours(self) -> bool:
        return self.lock.locked()

    def release(self) -> None:
        self.lock.release()


@pytest.mark.parametrize("make", [DictStore, MemoryStore])
def test_any_object_of_the_store_protocol_will_do(make: type[DictStore | MemoryStore]) -> None:
    store, clock, endpoint = make(), Clock(), Endpoint()
    put(store, document(token()))
    broker = Broker(store=store, providers=PROVIDERS, refresh_timeout=5, now=clock, send=endpoint)
    assert broker.settings.timeout == 5
    assert value(broker.resolve()) == "access-1"
    assert store.read(NAME).generation == 2
    clock.advance(LIFETIME)
    assert value(asyncio.run(broker.aresolve(NAME))) == "access-2"
    put(store, document(token(left=90_000, number=9)))
    wait_for(lambda: value(broker.resolve(NAME)) == "access-9")
    assert broker.drain(PATIENCE)


def test_a_file_store_needs_its_home_for_the_journal_beside_it(home: Home) -> None:
    with pytest.raises(UsageError, match="Broker\\(home="):
        Broker(store=FileStore(home))


# -- the default broker


def test_the_default_broker_is_made_once_and_serves_the_module_functions(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokenferry.broker._default.Default.broker", None)
    put(FileStore(home), Document(Account(NAME, "anthropic", "api-key"), ApiKey(Secret("sk-one"))))
    found: list[Broker] = []
    threads = [threading.Thread(target=lambda: found.append(default_broker())) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {id(broker) for broker in found} == {id(default_broker())}
    credential = tokenferry.resolve()
    assert credential.secret.reveal() == "sk-one"
    assert asyncio.run(tokenferry.aresolve(NAME)) is credential
    tokenferry.invalidate(NAME, credential.secret)
    assert tokenferry.resolve(NAME) == credential
    assert default_broker().drain(PATIENCE)
