"""Sealing a home, taking another key, and unsealing: one document at a time, each sealed or not and never lost."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from tokenferry.accounts._export import refuse_temporary
from tokenferry.errors import CorruptFile, StorageFailed, TokenferryError, UnknownAccount, UsageError
from tokenferry.refresh import FileJournal
from tokenferry.sealing import Marker, Place
from tokenferry.settings import Home
from tokenferry.stores import DISK, AttachedStore, Disk, FileLock, FileStore, Header, Moves, Seal, remove_leftovers

SealWord: TypeAlias = Literal["off", "on", "sealing", "rotating", "unsealing"]

_LOCK_WAIT: Final = 60.0
_ROUNDS: Final = 3
_NONE: Final[Mapping[str, TokenferryError]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class SealState:
    """How far a home is sealed, as can be told without any key."""

    marker: Marker | None = None
    sealed: tuple[str, ...] = ()
    """The accounts whose document is sealed with the present key."""
    older: tuple[str, ...] = ()
    """Those sealed with another one."""
    clear: tuple[str, ...] = ()
    broken: Mapping[str, TokenferryError] = field(default_factory=lambda: _NONE)

    @property
    def word(self) -> SealWord:
        """`sealing`, `rotating` and `unsealing` are what is under way, or was cut short."""
        if self.marker is None:
            return "off"
        if self.marker.is_opening:
            return "unsealing"
        if self.older or len(self.marker.keys) > 1:
            return "rotating"
        return "sealing" if self.clear else "on"

    @property
    def count(self) -> int:
        return len(self.sealed) + len(self.older) + len(self.clear) + len(self.broken)


def seal_state(files: FileStore) -> SealState:
    """Look at every document. Raises `CorruptFile`, `UnsafeFile` for a marker that can't be read."""
    marker = files.seal.marker()
    found: dict[str, list[str]] = {"sealed": [], "older": [], "clear": []}
    broken: dict[str, TokenferryError] = {}
    for name in files.names():
        try:
            header = files.header(name)
        except UnknownAccount:
            continue
        except TokenferryError as fault:
            broken[name] = fault
            continue
        is_current = header is not None and (marker is None or header.key == marker.current)
        found["clear" if header is None else "sealed" if is_current else "older"].append(name)
    return SealState(marker, broken=broken, **{kind: tuple(names) for kind, names in found.items()})


@dataclass(frozen=True, slots=True)
class SealResult:
    """What a run did. Where there are faults the home is as it was left, and the same command goes on from there."""

    changed: tuple[str, ...]
    faults: Mapping[str, TokenferryError]
    marker: Marker | None
    old: tuple[tuple[str, Place], ...] = ()
    """The keys, by id, with which nothing is sealed any more."""


class Sealing:
    """Seals and unseals what a home keeps; one process at a time, while others go on refreshing.

    The order is the safety: a key is in its place before the marker names it, the marker names it before anything is
    sealed with it, and names it as long as anything is. Each document is replaced whole under its account's lock.
    """

    def __init__(
        self,
        home: Home,
        files: FileStore,
        store: AttachedStore,
        journal: FileJournal,
        moves: Moves,
        *,
        disk: Disk = DISK,
    ) -> None:
        self._home = home
        self._disk = disk
        self._files = files
        self._store = store
        self._journal = journal
        self._moves = moves

    @property
    def _seal(self) -> Seal:
        return self._files.seal

    def seal(self, place: Place | None = None) -> SealResult:
        """Seal everything, or go on with what was cut short.

        `place` is where the key is to rest, if one has to be made: by default the system's keyring.

        Raises `UsageError` for a place that is none, `ConfigError` for a keyring that isn't real, `NeedsUnlock`,
        `SealKeyLost`, `UnsafeFile`, `CorruptFile`, `StorageFailed`, `LockTimeout`; then nothing is lost.
        """
        with self._alone():
            marker = self._seal.marker()
            if marker is None:
                place = place or Place()
                self._check_place(place)
                key = self._seal.present_key(place) or self._seal.new_key(place)
                marker = self._mark(Marker(((key.id, place),)))
            elif marker.is_opening:
                self._seal.key(marker.current)
                marker = self._mark(Marker(marker.keys))
            return self._carry_out(marker)

    def rotate(self, place: Place | None = None) -> SealResult:
        """Make a new key, and seal everything with that. A rotation that was cut short is completed instead.

        `place` is where the new key is to rest, by default where the old one does.

        Raises what `seal` does, and `UsageError` for a home that isn't sealed.
        """
        with self._alone():
            marker = self._seal.marker()
            if marker is None or marker.is_opening:
                raise UsageError("nothing is sealed here, so there is no key to replace; run: tokenferry seal")
            if len(marker.keys) == 1:
                place = place or marker.place
                self._check_place(place)
                self._seal.key(marker.current)
                key = self._seal.new_key(place)
                marker = self._mark(Marker(((key.id, place), *marker.keys)))
            return self._carry_out(marker)

    def unseal(self) -> SealResult:
        """Write everything in clear. Raises what `seal` does, and `UsageError` for a home that isn't sealed."""
        with self._alone():
            marker = self._seal.marker()
            state = seal_state(self._files)
            if marker is None:
                if not (state.sealed or state.older):
                    raise UsageError("nothing is sealed here")
                keys = {header.key: Place() for header in self._headers()}
                marker = Marker(tuple(keys.items()))
            return self._carry_out(self._mark(Marker(marker.keys, is_opening=True)))

    def forget(self, result: SealResult) -> None:
        """Remove the keys from their places with which nothing is sealed any more. Raises what `seal` does."""
        for key, place in result.old:
            self._seal.drop_key(key, place)

    # -- the steps

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """No other sealing, and no move of a login between two stores, meanwhile."""
        with (
            FileLock(self._home.path / "sealing", self._home.locks).held(_LOCK_WAIT),
            self._moves.held_off(_LOCK_WAIT),
        ):
            yield

    def _mark(self, marker: Marker) -> Marker:
        with self._seal.held():
            self._seal.mark(marker)
        return marker

    def _check_place(self, place: Place) -> None:
        if place.path is None:
            self._seal.keyring_name()
            return
        if lies_in(self._home, place.path):
            raise UsageError(
                f"{place.path} lies in the folder that is to be sealed, so whoever copies that has the key; name a "
                "file elsewhere with TOKENFERRY_SEAL_KEY_FILE"
            )
        refuse_temporary(place.path)

    def _carry_out(self, marker: Marker) -> SealResult:
        wanted = None if marker.is_opening else marker.current
        if wanted is not None:
            self._seal.key(wanted)
        changed: list[str] = []
        faults: dict[str, TokenferryError] = {}
        for _ in range(_ROUNDS):  # accounts may be added meanwhile
            faults = self._visit(wanted, changed)
            if faults:
                break
            with self._seal.held():
                if self._are_all(wanted):
                    left = None if wanted is None else Marker(marker.keys[:1])
                    self._seal.mark(left)
                    return SealResult(tuple(changed), {}, left, marker.keys if left is None else marker.keys[1:])
        return SealResult(tuple(changed), faults, marker)

    def _visit(self, wanted: str | None, changed: list[str]) -> dict[str, TokenferryError]:
        faults: dict[str, TokenferryError] = {}
        for name in sorted({*self._files.names(), *self._store.names()}):
            try:
                if self._settle(name, wanted) and name not in changed:
                    changed.append(name)
            except UnknownAccount:
                continue
            except TokenferryError as fault:
                faults[name] = fault
        return faults

    def _settle(self, name: str, wanted: str | None) -> bool:
        """Bring what is kept of one account to where it is wanted; tells whether its document had to be written."""
        is_attached = self._store.is_attached(name)
        if is_attached:
            with self._store.exclusive(name, _LOCK_WAIT):
                self._journal.rewrite(name)
        if name not in self._files.names():
            return False
        with self._files.exclusive(name, _LOCK_WAIT):
            is_settled = _is_under(self._files.header(name), wanted)
            if is_settled:
                remove_leftovers(self._files.path(name), disk=self._disk)
            else:
                document = self._files.read(name)
                self._files.swap(name, document.generation, document)
                if not _is_under(self._files.header(name), wanted):
                    raise StorageFailed(f"account {name!r} could not be written as it should be; try again")
            if not is_attached:
                self._journal.rewrite(name)
            return not is_settled

    def _are_all(self, wanted: str | None) -> bool:
        for name in self._files.names():
            with contextlib.suppress(UnknownAccount):
                if not _is_under(self._files.header(name), wanted):
                    return False
        return True

    def _headers(self) -> Iterator[Header]:
        for name in self._files.names():
            with contextlib.suppress(UnknownAccount, CorruptFile):
                header = self._files.header(name)
                if header is not None:
                    yield header


def _is_under(header: Header | None, key: str | None) -> bool:
    return (None if header is None else header.key) == key


def lies_in(home: Home, path: Path) -> bool:
    """Whether a key file lies beside what it seals."""
    return path.resolve().is_relative_to(home.path.resolve())
