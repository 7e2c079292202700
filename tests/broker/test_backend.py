"""One object gives a broker its store, its journal and its knowledge of the processes that share them."""

from collections.abc import Iterator

import pytest
from msgspec.structs import replace
from typing_extensions import override

from refresh.rig import NAME, START, Rig, token, value
from tokenferry.broker import FileBackend, GivenBackend
from tokenferry.errors import RefreshBusy, UsageError
from tokenferry.readiness._standing import standing
from tokenferry.refresh import FileJournal, RefreshAttempt
from tokenferry.secret import Secret
from tokenferry.settings import Home
from tokenferry.stores import FileStore, MemoryStore, ProcessIdentity

ELSEWHERE = ProcessIdentity(1, "0", "another machine's", instance="host-2")


@pytest.fixture
def rig(home: Home) -> Iterator[Rig]:
    rig = Rig(home)
    yield rig
    rig.close()


class Shared(FileBackend):
    """Shared with other machines: another boot id says nothing of a process."""

    @override
    def is_gone(self, process: ProcessIdentity) -> bool:
        return not process.instance and super().is_gone(process)

    @override
    def process(self) -> ProcessIdentity:
        return replace(super().process(), instance="host-1")


def test_whether_a_process_is_gone_is_the_backends_to_say(rig: Rig) -> None:
    rig.put(token())
    attempt = replace(RefreshAttempt.begin(Secret("refresh-0").sha256, START, ELSEWHERE, 1), state="open")

    class Journal(FileJournal):
        @override
        def attempt(self, name: str) -> RefreshAttempt | None:
            recorded = super().attempt(name)
            return None if recorded is None else replace(recorded, process=ELSEWHERE)

    journal = Journal(rig.home.journal)
    journal.begin(NAME, attempt)
    broker = rig.broker(backend=Shared(rig.home, journal))
    with pytest.raises(RefreshBusy, match="process 1 has a refresh in flight"):
        broker.resolve(NAME)
    document = rig.store.read(NAME)
    shown = standing(document, attempt, None, broker.machine, START, is_gone=broker.backend.is_gone)
    assert shown[0] == "refreshing"
    assert standing(document, attempt, None, broker.machine, START)[0] == "uncertain"


def test_an_attempt_is_recorded_as_the_backend_names_this_process(rig: Rig) -> None:
    rig.put(token())
    recorded: list[RefreshAttempt] = []

    class Noting(FileJournal):
        @override
        def begin(self, name: str, attempt: RefreshAttempt, *, replaces: str | None = None) -> None:
            recorded.append(attempt)
            super().begin(name, attempt, replaces=replaces)

    value(rig.broker(backend=Shared(rig.home, Noting(rig.home.journal))).resolve(NAME))
    assert [one.process.instance for one in recorded] == ["host-1"]


def test_a_store_of_files_needs_a_home_for_its_journal(home: Home) -> None:
    with pytest.raises(UsageError, match=r"Broker\(home="):
        GivenBackend(FileStore(home))
    assert isinstance(GivenBackend(FileStore(home), home=home).journal, FileJournal)


def test_the_state_is_not_made_by_looking_at_it(home: Home) -> None:
    with FileBackend(home).state() as state:
        assert state is None
    assert not home.state.exists()
    with GivenBackend(MemoryStore()).state() as state:
        assert state is None
