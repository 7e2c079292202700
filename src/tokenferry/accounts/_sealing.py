"""Sealing a home, rotating its key, and unsealing: document by document, with none ever lost."""

import contextlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from msgspec import Struct, field

from tokenferry.errors import (
    CorruptFile,
    NeedsUnlock,
    SealKeyLost,
    TokenferryError,
    UnknownAccount,
    UnsafeFile,
    UsageError,
)
from tokenferry.refresh import FileJournal
from tokenferry.sealing import KeyPlace, Marker, SealKey
from tokenferry.settings import Home
from tokenferry.stores import DISK, AttachedStore, Disk, FileLock, FileStore, Header, Moves, Seal, remove_leftovers

SealWord: TypeAlias = Literal["off", "on", "sealing", "rotating", "unsealing"]

_LOCK_WAIT: Final = 60.0
_ROUNDS: Final = 3
_NONE: Final[Mapping[str, TokenferryError]] = MappingProxyType({})


class SealState(Struct, frozen=True):
    """How far a home is sealed, as far as that shows without a key."""

    marker: Marker | None = None
    sealed: tuple[str, ...] = ()
    """The accounts whose document is sealed with the present key."""
    older: tuple[str, ...] = ()
    """Those sealed with an older key."""
    clear: tuple[str, ...] = ()
    broken: Mapping[str, TokenferryError] = field(default_factory=lambda: _NONE)

    @property
    def word(self) -> SealWord:
        """`sealing`, `rotating` and `unsealing` are in progress, or were interrupted."""
        if self.marker is None:
            return "off"
        if self.marker.is_opening:
            return "unsealing"
        if self.older or len(self.marker.keys) > 1:
            return "rotating"
        return "on" if self.marker.is_complete else "sealing"

    @property
    def count(self) -> int:
        return len(self.sealed) + len(self.older) + len(self.clear) + len(self.broken)


def seal_state(files: FileStore) -> SealState:
    """Examine every document. Raises `CorruptFile`, `UnsafeFile` for an unreadable marker."""
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


class SealResult(Struct, frozen=True):
    """The result of a run. After faults the same command continues where it stopped."""

    changed: tuple[str, ...]
    faults: Mapping[str, TokenferryError]
    marker: Marker | None
    old: tuple[tuple[str, KeyPlace], ...] = ()
    """The keys, by id, that no longer seal anything."""


class Sealing:
    """Seals and unseals a home; one process at a time, while others go on refreshing.

    The order makes it safe: a key is stored before the marker names it, and the marker names it as long as anything is
    sealed with it. Each document is replaced whole under its account's lock.
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

    def state(self) -> SealState:
        """Examine every document. Raises what `seal_state` does."""
        return seal_state(self._files)

    def seal(self, place: KeyPlace | None = None, *, accept: Collection[str] = ()) -> SealResult:
        """Seal everything, or continue an interrupted run.

        `place` is where to store a new key, by default the system's keyring. `accept` names accounts to seal although
        their document is in clear in a home that should be sealed.

        Raises `UsageError` for an unsuitable place, `ConfigError` for an unsupported keyring, `NeedsUnlock`,
        `SealKeyLost`, `UnsafeFile`, `CorruptFile`, `StorageFailed`, `LockTimeout`; nothing is lost then.
        """
        with self._alone():
            if self._seal.marker() is None:
                marker = self._mark(self._begun(place or KeyPlace()))
            else:
                marker = self._trusted() or self._mark(self._restored())
                if marker.is_opening:
                    marker = self._mark(Marker(marker.keys, is_complete=False))
            return self._carry_out(marker, accept)

    def rotate(self, place: KeyPlace | None = None) -> SealResult:
        """Make a new key and seal everything with it, or complete an interrupted rotation.

        `place` is where to store the new key, by default beside the old one.
        Raises what `seal` raises, and `UsageError` for a home that isn't sealed.
        """
        with self._alone():
            marker = self._seal.checked()
            if marker is None or marker.is_opening:
                raise UsageError(
                    "nothing is sealed here, so there is no key to replace; run: tokenferry encryption enable"
                )
            if len(marker.keys) == 1:
                place = place or marker.place
                self._check_place(place)
                key = self._seal.new_key(place)
                marker = self._mark(Marker(((key.id, place), *marker.keys), is_complete=marker.is_complete))
            return self._carry_out(marker)

    def unseal(self) -> SealResult:
        """Write everything in clear.

        Raises what `seal` raises, `UsageError` for a home that isn't sealed, and `SealKeyLost`, before any change, for
        a sealed document whose key is lost.
        """
        with self._alone():
            state = seal_state(self._files)
            known = () if state.marker is None else state.marker.keys
            if state.marker is None and not state.sealed:
                raise UsageError("nothing is sealed here")
            places = dict(known)
            for key in self._keys_in_use():
                if key not in places and self._can_have(key):
                    places[key] = self._seal.where(key)
            for name in (*state.sealed, *state.older):
                self._check_key(name)
            if (trusted := self._trusted()) is not None and trusted.is_complete and not trusted.is_opening:
                for name in state.clear:
                    self._files.read(name)  # which raises, since another user may have written it
            keys = [(key, place) for key, place in places.items() if self._can_have(key)]
            marker = Marker(tuple(keys), is_opening=True, is_complete=False)
            return self._carry_out(self._mark(marker) if keys else marker)

    def _check_key(self, name: str) -> None:
        """Raise `NeedsUnlock` or `SealKeyLost` for a document whose key isn't available."""
        try:
            self._files.read(name)
        except (NeedsUnlock, SealKeyLost):
            raise
        except TokenferryError:
            return

    def _begun(self, place: KeyPlace) -> Marker:
        """Make the marker of a home without one: it is new, or has lost its marker."""
        older = self._keys_in_use()
        places = {key: self._seal.where(key) for key in older}
        self._check_place(place)
        new = self._seal.present_key(place) or self._seal.new_key(place)
        places.pop(new.id, None)
        return Marker(((new.id, place), *places.items()), is_complete=bool(older))

    def _trusted(self) -> Marker | None:
        """Return the marker, if it can be trusted. Raises `NeedsUnlock`, `SealKeyLost`."""
        try:
            return self._seal.checked()
        except SealKeyLost:
            raise
        except CorruptFile:
            return None

    def _restored(self) -> Marker:
        """Replace a marker that can't be trusted, by the key that opens every sealed document."""
        keys = self._keys_in_use()
        if len(keys) != 1:
            raise CorruptFile(
                f"{self._seal.path} can't be trusted, and the documents name {len(keys)} keys, so they don't say which "
                "is yours; restore it from a backup, or run: tokenferry encryption disable, then: tokenferry "
                "encryption enable"
            )
        state = seal_state(self._files)
        for name in (*state.sealed, *state.older):
            self._files.read(name)
        place = self._seal.where(keys[0])
        self._check_place(place)
        return Marker(((keys[0], place),))

    def _keys_in_use(self) -> list[str]:
        """Return the keys that sealed documents name."""
        found = (document.header.key for _, document in self._seal.documents() if document is not None)
        return list(dict.fromkeys(found))

    def _can_have(self, key: str) -> bool:
        try:
            self._seal.key(key)
        except TokenferryError:
            return False
        return True

    def check_forgettable(self) -> None:
        """Raise nothing: old keys can be removed here."""

    def forget(self, result: SealResult) -> None:
        """Remove the old keys, which no longer seal anything, from their places. Raises what `seal` raises."""
        for key, place in result.old:
            self._seal.drop_key(key, place)

    # -- the steps

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Exclude other sealing, and moves of a login between two stores."""
        with (
            FileLock(self._home.path / "sealing", self._home.locks).held(_LOCK_WAIT),
            self._moves.held_off(_LOCK_WAIT),
        ):
            yield

    def _mark(self, marker: Marker) -> Marker:
        signed = self._seal.signed(marker)
        with self._seal.held():
            self._seal.mark(signed)
        return signed

    def _check_place(self, place: KeyPlace) -> None:
        if place.path is None:
            self._seal.keyring_name()
        else:
            check_key_file(self._home, place.path)

    def _carry_out(self, marker: Marker, accept: Collection[str] = ()) -> SealResult:
        wanted = None if marker.is_opening else self._seal.key(marker.current)
        changed: list[str] = []
        faults: dict[str, TokenferryError] = {}
        for _ in range(_ROUNDS):  # accounts may be added during a round
            faults = self._visit(wanted, changed, accept)
            if faults:
                break
            with self._seal.held():
                if self._are_all(wanted):
                    left = None if wanted is None else self._seal.signed(Marker(marker.keys[:1]))
                    self._seal.mark(left)
                    return SealResult(tuple(changed), {}, left, marker.keys if left is None else marker.keys[1:])
        return SealResult(tuple(changed), faults, marker)

    def _visit(self, wanted: SealKey | None, changed: list[str], accept: Collection[str]) -> dict[str, TokenferryError]:
        faults: dict[str, TokenferryError] = {}
        for name in sorted({*self._files.names(), *self._store.names()}):
            try:
                if self._settle(name, wanted, accept_clear=name in accept) and name not in changed:
                    changed.append(name)
            except UnknownAccount:
                continue
            except TokenferryError as fault:
                faults[name] = fault
        return faults

    def _settle(self, name: str, wanted: SealKey | None, *, accept_clear: bool) -> bool:
        """Seal or unseal one account's files as wanted; True if its document had to be written."""
        is_attached = self._store.is_attached(name)
        if is_attached:
            with self._store.exclusive(name, _LOCK_WAIT):
                self._journal.rewrite(name, wanted)
        if name not in self._files.names():
            return False
        with self._files.exclusive(name, _LOCK_WAIT):
            is_settled = _is_under(self._files.header(name), wanted)
            if is_settled:
                remove_leftovers(self._files.path(name), disk=self._disk)
            else:
                self._files.rewrite(name, wanted, accept_clear=accept_clear)
            if not is_attached:
                self._journal.rewrite(name, wanted)
            return not is_settled

    def _are_all(self, wanted: SealKey | None) -> bool:
        for name in self._files.names():
            with contextlib.suppress(UnknownAccount):
                if not _is_under(self._files.header(name), wanted):
                    return False
        return True


def _is_under(header: Header | None, key: SealKey | None) -> bool:
    return (None if header is None else header.key) == (None if key is None else key.id)


def check_key_file(home: Home, path: Path) -> None:
    """Raise `UsageError` or `UnsafeFile` for a file that is no place for the key of this home."""
    if lies_in(home, path):
        raise UsageError(
            f"{path} is in the folder to be sealed, so a copy of the folder would have the key; name a file elsewhere "
            "with TOKENFERRY_SEAL_KEY_FILE"
        )
    refuse_temporary(path)


def lies_in(home: Home, path: Path) -> bool:
    """Whether a key file is in the home that it seals."""
    return path.resolve().is_relative_to(home.path.resolve())


def refuse_temporary(path: Path) -> None:
    """Raise `UnsafeFile` for a file under the temporary folder, which other users share and programs clean."""
    from tempfile import gettempdir  # noqa: PLC0415  # only an export asks

    if path.resolve().is_relative_to(Path(gettempdir()).resolve()):
        raise UnsafeFile(
            f"{path} is under the temporary folder, which isn't safe for secrets; name a file in your home"
        )
