"""Sealing, unsealing and taking another key, ended at every operation on the disk: nothing is lost on the way."""

import contextlib
import itertools
import random
import tempfile
from pathlib import Path
from typing import Literal, TypeAlias

import pytest
from msgspec.structs import replace

from effort import STRIDE
from leaks import shows
from sim.disk import Killed, VirtualDisk
from tokenferry.accounts import Sealing, lies_in, seal_state
from tokenferry.credentials import ApiKey, OAuthToken
from tokenferry.errors import CorruptFile, NeedsUnlock, SealKeyLost, UnsafeFile, UsageError
from tokenferry.refresh import FileJournal, RefreshAttempt
from tokenferry.sealing import KeyPlace, Marker, SealKey
from tokenferry.secret import Fields, Secret
from tokenferry.settings import Home
from tokenferry.stores import (
    DISK,
    Account,
    AttachedStore,
    Disk,
    Document,
    FileStore,
    MemoryStore,
    ProcessIdentity,
    Seal,
)

Command: TypeAlias = Literal["seal", "rotate", "unseal"]

SECRETS = ("sk-ant-oat01-" + "Aa1" * 30, "sk-ant-ort01-" + "Rr1" * 30, "sk-ant-oat01-" + "Bb2" * 30)
TOKEN = OAuthToken(Secret(SECRETS[0]), Secret(SECRETS[1]), expires_at=1_900_000_000, unknown=Fields(x=1))
RENEWED = replace(TOKEN, secret=Secret(SECRETS[2]))
DOCUMENTS = {
    "key": Document(Account("key", "anthropic", "api-key"), ApiKey(Secret("sk-ant-api03-aaaaaaaaaaaaaaaaaaaa"))),
    "work": Document(Account("work", "console", "oauth"), TOKEN, machine="m", unknown=Fields(y=[1, 2])),
}
assert TOKEN.refresh is not None
ATTEMPT = RefreshAttempt("ab" * 8, TOKEN.refresh.sha256, 1_800_000_000, ProcessIdentity(1, "1", "boot"))


class NoMoves:
    def concerns(self, name: str) -> bool:
        return False

    def recover(self, timeout: float) -> None:
        raise AssertionError

    def held_off(self, timeout: float) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


class World:
    """A home as one process sees it, which has no key in memory yet."""

    def __init__(self, home: Home, disk: Disk, path: Path) -> None:
        self.seal = Seal(home, disk=disk)
        self.files = FileStore(home, disk=disk, seal=self.seal)
        self.journal = FileJournal(home.journal, disk=disk, seal=self.seal)
        self.store = AttachedStore(self.files, home.attached, lambda _: MemoryStore(), moves=NoMoves(), disk=disk)
        self.sealing = Sealing(home, self.files, self.store, self.journal, NoMoves(), disk=disk)
        self.place = KeyPlace(path)

    def run(self, command: Command) -> None:
        if command == "unseal":
            result = self.sealing.unseal()
        else:
            result = self.sealing.seal(self.place) if command == "seal" else self.sealing.rotate(self.place)
        assert not result.faults

    def begin(self) -> None:
        """Two accounts, and a renewed token of one of them that waits in the journal to be published."""
        for name, document in DOCUMENTS.items():
            self.files.swap(name, None, document)
        self.journal.begin("work", ATTEMPT)
        self.journal.answer("work", ATTEMPT, RENEWED)

    def check(self) -> None:
        """Everything is there, as it was."""
        for name, document in DOCUMENTS.items():
            found = self.files.read(name)
            assert replace(found, generation=1) == document
        attempt = self.journal.attempt("work")
        assert attempt == replace(ATTEMPT, answer=RENEWED)


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    folder = tmp_path / "stick"
    folder.mkdir(mode=0o700)
    return folder / "key"


def contents(disk: VirtualDisk, home: Home) -> str:
    folders = (home.accounts, home.journal)
    return "".join(disk.peek(folder / name).decode("latin-1") for folder in folders for name in disk.names(folder))


ENDS: dict[Command, tuple[Command, ...]] = {"seal": (), "rotate": ("seal",), "unseal": ("seal",)}
"""What comes before each command."""


@pytest.mark.parametrize("power", [False, True], ids=["kill", "power cut"])
@pytest.mark.parametrize("command", ENDS)
def test_an_end_at_any_operation_loses_nothing_and_the_same_command_goes_on(
    home: Home, elsewhere: Path, command: Command, *, power: bool
) -> None:
    steps = 0
    for step in itertools.count(1, STRIDE):
        is_over = False
        for luck in range(3 if power else 1):
            disk = VirtualDisk(random.Random(luck))
            world = World(home, disk, elsewhere)
            world.begin()
            for before in ENDS[command]:
                world.run(before)
            disk.die_at = disk.operations + step
            try:
                World(home, disk, elsewhere).run(command)
            except Killed:
                disk.is_dying = False
                if power:
                    disk.power_cut()
            else:
                is_over = True
            disk.die_at = None
            World(home, disk, elsewhere).check()
            if is_over:
                break
            again = World(home, disk, elsewhere)
            is_done = command == "unseal" and seal_state(again.files).word == "off"
            if not is_done:
                again.run(command)
            after = World(home, disk, elsewhere)
            after.check()
            state = seal_state(after.files)
            assert state.word == ("off" if command == "unseal" else "on")
            assert bool(shows(contents(disk, home), *SECRETS)) == (command == "unseal")
            leftovers = [name for folder in (home.accounts, home.journal) for name in disk.names(folder)]
            assert not [name for name in leftovers if ".tmp." in name]
        if is_over:
            break
        steps = step
    assert steps > 20


@pytest.fixture
def world(home: Home, elsewhere: Path) -> World:
    world = World(home, DISK, elsewhere)
    world.begin()
    return world


def fresh(world: World, home: Home) -> World:
    assert world.place.path is not None
    return World(home, DISK, world.place.path)


def test_each_write_makes_the_generation_one_higher_and_what_is_sealed_already_is_left_alone(
    world: World, home: Home
) -> None:
    world.run("seal")
    raw = world.files.path("work").read_bytes()
    assert world.files.read("work").generation == 2
    fresh(world, home).run("seal")
    assert world.files.path("work").read_bytes() == raw
    world.run("rotate")
    assert world.files.read("work").generation == 3
    world.run("unseal")
    assert world.files.read("work").generation == 4
    world.check()


def test_a_new_account_is_sealed_and_one_whose_writer_is_slow_is_found(world: World, home: Home) -> None:
    world.run("seal")
    other = fresh(world, home)
    other.files.swap("new", None, replace(DOCUMENTS["key"], account=Account("new", "anthropic", "api-key")))
    assert other.files.header("new") is not None
    assert seal_state(other.files).sealed == ("key", "new", "work")


def test_a_rotation_leaves_the_old_key_until_it_is_asked_to_forget_it(
    world: World, home: Home, elsewhere: Path
) -> None:
    world.run("seal")
    (old,) = elsewhere.read_text().split()
    result = world.sealing.rotate(world.place)
    assert [key for key, _ in result.old] == [SealKey(Secret(old)).id]
    assert old in elsewhere.read_text()
    world.sealing.forget(result)
    assert old not in elsewhere.read_text()
    fresh(world, home).check()


def test_a_rotation_goes_where_the_old_key_is_unless_another_place_is_named(
    world: World, home: Home, elsewhere: Path
) -> None:
    world.run("seal")
    assert world.sealing.rotate().marker == world.seal.marker()
    other = elsewhere.with_name("other")
    moved = world.sealing.rotate(KeyPlace(other)).marker
    assert moved is not None
    assert moved.place == KeyPlace(other)
    fresh(world, home).check()


def test_a_file_that_holds_a_key_already_is_used_with_that_key(world: World, elsewhere: Path) -> None:
    key = SealKey.new()
    elsewhere.write_text(key.secret.reveal() + "\n")
    elsewhere.chmod(0o600)
    world.run("seal")
    marker = world.seal.marker()
    assert marker is not None
    assert marker.current == key.id


def test_a_key_beside_what_it_seals_or_under_the_temporary_folder_is_refused(
    world: World, home: Home, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="a copy of the folder would have the key"):
        world.sealing.seal(KeyPlace(home.path / "keys" / "key"))
    with pytest.raises(UnsafeFile, match="temporary folder"):
        world.sealing.seal(KeyPlace(tmp_path / "temporary" / "key"))
    assert seal_state(world.files).word == "off"
    assert lies_in(home, home.path / "x")


def test_what_is_not_sealed_is_neither_rotated_nor_unsealed(world: World) -> None:
    for call in (world.sealing.rotate, world.sealing.unseal):
        with pytest.raises(UsageError, match="sealed here"):
            call()


def test_without_the_key_nothing_is_begun(world: World, home: Home, elsewhere: Path) -> None:
    world.run("seal")
    before = home.seal.read_bytes()
    elsewhere.unlink()
    locked = fresh(world, home)
    for call in (locked.sealing.seal, locked.sealing.rotate):
        with pytest.raises(NeedsUnlock):
            call()
    assert home.seal.read_bytes() == before
    assert not elsewhere.exists()


def test_what_cannot_be_done_for_one_account_is_done_for_the_others_and_reported(world: World, home: Home) -> None:
    path = world.files.path("broken")
    path.write_text("{")
    path.chmod(0o600)
    result = world.sealing.seal(world.place)
    assert set(result.faults) == {"broken"}
    assert isinstance(result.faults["broken"], CorruptFile)
    assert result.changed == ("key", "work")
    assert (path.read_text(), seal_state(world.files).sealed) == ("{", ("key", "work"))


def plant(world: World, name: str, key: SealKey | None) -> bytes:
    """Have a document that this home's programs did not write, sealed with some key or in clear."""
    stored = replace(DOCUMENTS["key"], account=Account(name, "anthropic", "api-key"))
    world.files._write(world.files.path(name), stored, key)
    return world.files.path(name).read_bytes()


def test_nothing_is_unsealed_while_the_key_of_an_account_is_lost(world: World, home: Home) -> None:
    world.run("seal")
    plant(world, "lost", SealKey.new())
    before = home.seal.read_bytes()
    with pytest.raises(SealKeyLost, match="account 'lost'"):
        fresh(world, home).sealing.unseal()
    assert home.seal.read_bytes() == before
    world.files.discard("lost")
    fresh(world, home).run("unseal")
    assert seal_state(world.files).word == "off"


def test_a_document_in_clear_in_a_sealed_home_is_touched_only_when_it_is_named(world: World, home: Home) -> None:
    world.run("seal")
    raw = plant(world, "planted", None)
    for call in (world.sealing.seal, world.sealing.rotate):
        assert set(call().faults) == {"planted"}
    with pytest.raises(CorruptFile, match="encryption enable --accept planted"):
        world.sealing.unseal()
    assert world.files.path("planted").read_bytes() == raw
    assert not world.sealing.seal(accept=["planted"]).faults
    assert seal_state(fresh(world, home).files).sealed == ("key", "planted", "work")
    world.check()


@pytest.mark.parametrize("accepts", [True, False])
def test_a_document_in_clear_beside_sealed_ones_without_a_marker_is_used_once_that_is_settled(
    world: World, home: Home, monkeypatch: pytest.MonkeyPatch, *, accepts: bool
) -> None:
    world.run("seal")
    plant(world, "planted", None)
    home.seal.unlink()
    monkeypatch.setenv("TOKENFERRY_SEAL_KEY_FILE", str(world.place.path))
    other = fresh(world, home)
    with pytest.raises(CorruptFile, match="encryption enable --accept planted"):
        other.files.read("planted")
    if accepts:
        assert not other.sealing.seal(world.place, accept=["planted"]).faults
        assert other.files.read("planted").account.name == "planted"
    else:
        other.files.discard("planted")
        other.run("unseal")
    world.check()


def test_a_forged_marker_is_put_right_by_the_key_that_opens_the_documents(world: World, home: Home) -> None:
    world.run("seal")
    true = world.seal.checked()
    assert true is not None
    foreign = SealKey.new()
    place = true.place.path
    assert place is not None
    place.write_text(f"{place.read_text()}{foreign.secret.reveal()}\n")
    for forged in (
        Marker(true.keys, is_opening=True),
        Marker(((foreign.id, true.place), *true.keys)),
        Marker(((foreign.id, true.place),)).signed([foreign]),
    ):
        home.seal.write_bytes(forged.to_bytes())
        other = fresh(world, home)
        with pytest.raises(CorruptFile):
            other.sealing.rotate()
        assert not other.sealing.seal().changed
        assert fresh(world, home).seal.checked() == true
    world.check()


def test_a_forged_marker_beside_documents_of_two_keys_is_put_right_by_unsealing(world: World, home: Home) -> None:
    world.run("seal")
    true = world.seal.checked()
    assert true is not None
    foreign = SealKey.new()
    place = true.place.path
    assert place is not None
    place.write_text(f"{place.read_text()}{foreign.secret.reveal()}\n")
    plant(world, "planted", foreign)
    home.seal.write_bytes(Marker(((foreign.id, true.place), *true.keys)).to_bytes())
    with pytest.raises(CorruptFile, match="tokenferry encryption disable"):
        fresh(world, home).sealing.seal()
    fresh(world, home).run("unseal")
    fresh(world, home).check()


def test_an_unsealing_that_an_earlier_version_did_not_end_is_ended(world: World, home: Home) -> None:
    world.run("seal")
    marker = world.seal.marker()
    assert marker is not None
    world.files.rewrite("key", None)
    home.seal.write_bytes(Marker(marker.keys, is_opening=True).to_bytes())
    fresh(world, home).run("unseal")
    assert seal_state(world.files).word == "off"
    fresh(world, home).check()


def test_a_home_that_lost_its_marker_can_be_unsealed(world: World, home: Home, elsewhere: Path) -> None:
    world.run("seal")
    home.seal.unlink()
    other = fresh(world, home)
    other.seal.know(SealKey(Secret(elsewhere.read_text().strip())))
    other.run("unseal")
    world.check()


def test_an_attached_account_has_its_journal_sealed_too(home: Home, elsewhere: Path) -> None:
    world = World(home, DISK, elsewhere)
    there = MemoryStore(replace(DOCUMENTS["work"], account=Account("mine", "console", "oauth", store="memory")))
    world.store._open_store = lambda _: there
    world.store.attach(Account("mine", "console", "oauth", store="memory"))
    world.journal.begin("mine", ATTEMPT)
    world.journal.answer("mine", ATTEMPT, RENEWED)
    world.run("seal")
    assert not shows((home.journal / "mine.attempt").read_text("latin-1"), *SECRETS)
    assert fresh(world, home).journal.attempt("mine") == replace(ATTEMPT, answer=RENEWED)
