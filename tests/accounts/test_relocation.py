"""Accounts move between files and a database; whenever that ends, one side at most may renew a login."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct
from msgspec.structs import replace

from contracts import begun, document
from fleet.rig import TwoHosts
from tokenferry.accounts import AccountPlace, move_accounts
from tokenferry.errors import StorageFailed
from tokenferry.refresh import FileJournal, Journal, RefreshFailure
from tokenferry.settings import Home
from tokenferry.stores import Document, FileStore, Store

WRITES = 4
"""Of one account: a copy, two changes of whose it is, a removal."""


class Place(Struct):
    store: Any
    journal: Journal
    machine: str


class Killed(BaseException):
    """The command ends amid a write."""


class Writes:
    """Counts the writes of both sides, and ends the command at one of them."""

    def __init__(self, *places: Place) -> None:
        self.left: float = float("inf")
        self.is_done_first = False
        for place in places:
            place.store = self._watched(place.store)

    def _watched(self, store: Store) -> Store:
        swap = store.swap

        def counted(name: str, expected: int | None, new: Document | None) -> None:
            self.left -= 1
            if self.left == 0 and not self.is_done_first:
                raise Killed
            swap(name, expected, new)
            if self.left == 0:
                raise Killed

        store.swap = counted  # type: ignore[method-assign]
        return store


Sides = tuple[Place, Place]


@pytest.fixture(params=["there", "back"])
def sides(request: pytest.FixtureRequest, tmp_path: Path) -> Sides:
    """Files of a home and rows of a database; first the side that accounts move from."""
    home = Home(tmp_path / "home")
    home.path.mkdir(mode=0o700)
    files = FileStore(home)
    made = (
        Place(files, FileJournal(home.journal, seal=files.seal), "this machine"),
        Place(*TwoHosts(tmp_path).process(), "fleet default"),
    )
    return made if request.param == "there" else made[::-1]


def put(place: Place, number: int = 0, name: str = "work") -> Document:
    made = replace(document(number, name), machine=place.machine)
    place.store.swap(name, None, made)
    return made


def living(name: str, *places: Place) -> list[AccountPlace]:
    """Those of the places that may renew the login."""
    return [
        place
        for place in places
        if name in place.store.names() and place.store.read(name).machine in {None, place.machine}
    ]


def test_every_account_moves_with_its_credential_and_what_is_known_of_it(sides: Sides) -> None:
    source, target = sides
    made = [put(source, number, name) for number, name in enumerate(("home", "work"))]
    failure = RefreshFailure("failed", "a" * 64, 1_800_000_000.0, "it is down", 1_800_000_060.0, 1)
    source.journal.record_failure("work", failure)
    found = move_accounts(source, target)
    assert (found.moved, found.left) == (("home", "work"), {})
    assert source.store.names() == []
    for one in made:
        there = target.store.read(one.account.name)
        assert (there.account, there.credential, there.machine) == (one.account, one.credential, target.machine)
    assert target.journal.failure("work") == failure
    assert move_accounts(source, target).moved == ()


@pytest.mark.parametrize("is_done_first", [False, True])
@pytest.mark.parametrize("number", range(1, WRITES + 1))
def test_a_login_never_lives_twice_and_the_next_run_completes_it(
    sides: Sides, number: int, *, is_done_first: bool
) -> None:
    source, target = sides
    made = put(source)
    writes = Writes(*sides)
    writes.left, writes.is_done_first = number, is_done_first
    with pytest.raises(Killed):
        move_accounts(source, target)
    assert len(living("work", *sides)) <= 1
    writes.left = float("inf")
    assert move_accounts(source, target).left == {}
    assert source.store.names() == []
    assert living("work", *sides) == [target]
    assert target.store.read("work").credential == made.credential


def test_a_move_that_was_cut_short_may_be_taken_back(sides: Sides) -> None:
    source, target = sides
    for number in range(1, WRITES + 1):
        made = put(source, number)
        writes = Writes(*sides)
        writes.left = number
        with pytest.raises(Killed):
            move_accounts(source, target)
        writes.left = float("inf")
        move_accounts(target, source)
        assert living("work", *sides) == [source], number
        assert source.store.read("work").credential == made.credential
        source.store.swap("work", source.store.read("work").generation, None)


def spoil_machine(place: Place) -> None:
    place.store.swap("work", 1, replace(document(), machine="another machine"))


def begin_refresh(place: Place) -> None:
    attempt = begun()
    place.journal.begin("work", attempt)
    place.journal.sending("work", attempt, 1_800_000_000.0)


@pytest.mark.parametrize(
    ("spoil", "why"), [(spoil_machine, "copied from another machine"), (begin_refresh, "tokenferry refresh work")]
)
def test_a_login_whose_token_may_be_in_use_stays(sides: Sides, spoil: Callable[[Place], None], why: str) -> None:
    source, target = sides
    put(source)
    put(source, 1, "home")
    spoil(source)
    found = move_accounts(source, target)
    assert found.moved == ("home",)
    assert why in found.left["work"]
    assert (source.store.names(), target.store.names()) == (["work"], ["home"])


def test_a_refresh_that_begins_amid_the_move_stops_it_and_its_token_moves_later(sides: Sides) -> None:
    source, target = sides
    made = put(source)
    swap, attempt = source.store.swap, begun()

    def late(name: str, expected: int | None, new: Document | None) -> None:
        swap(name, expected, new)
        source.store.swap = swap
        source.journal.begin(name, attempt)
        source.journal.sending(name, attempt, 1_800_000_000.0)

    source.store.swap = late
    assert "tokenferry refresh work" in move_accounts(source, target).left["work"]
    assert living("work", *sides) == []
    renewed = replace(made, credential=document(1).credential)
    swap("work", source.store.read("work").generation, renewed)
    source.journal.close("work", attempt)
    assert living("work", *sides) == [source]
    assert move_accounts(source, target).moved == ("work",)
    assert living("work", *sides) == [target]
    assert target.store.read("work").credential == renewed.credential


def test_what_was_written_amid_the_move_is_not_removed(sides: Sides) -> None:
    source, target = sides
    put(source)
    swap = target.store.swap

    def late(name: str, expected: int | None, new: Document | None) -> None:
        swap(name, expected, new)
        if new is not None and new.machine == target.machine:
            source.store.swap(name, source.store.read(name).generation, document(1))

    target.store.swap = late
    assert "changed by another program" in move_accounts(source, target).left["work"]
    assert source.store.read("work").credential == document(1).credential


def test_another_account_of_that_name_is_left_alone(sides: Sides) -> None:
    source, target = sides
    put(source)
    there = put(target, 7)
    assert "another account has its name" in move_accounts(source, target).left["work"]
    assert target.store.read("work").credential == there.credential
    assert living("work", source) == [source]


def test_what_reads_otherwise_than_it_was_written_stays(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = sides
    put(source)
    swap = target.store.swap
    monkeypatch.setattr(target.store, "swap", lambda name, expected, _: swap(name, expected, document(5)))
    with pytest.raises(StorageFailed, match="nothing was moved"):
        move_accounts(source, target)
    assert living("work", source) == [source]
