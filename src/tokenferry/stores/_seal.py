"""Whether a home is sealed, and its keys: read once, and in memory from then on."""

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, Self

from tokenferry.errors import ConfigError, CorruptFile, NeedsUnlock, SealKeyLost, TokenferryError, UnsafeFile
from tokenferry.sealing import Marker, Place, SealKey, SystemKeyring
from tokenferry.secret import HiddenBytes
from tokenferry.settings import Home
from tokenferry.stores._files import DISK, Disk, remove_file, remove_leftovers, replace_private_file
from tokenferry.stores._lock import FileLock

KEY_FILE: Final = "TOKENFERRY_SEAL_KEY_FILE"
_LOCK_WAIT: Final = 30.0
_REMEMBER_FAULT: Final = 2.0
_TRY_AGAIN: Final = 5.0

_shared: Final[dict[Path, "Seal"]] = {}
_seals: "weakref.WeakSet[Seal]" = weakref.WeakSet()


class Seal:
    """The sealing of one home, for all its stores and journals in this process: `Seal.of(home)` gives that one.

    Whoever has opened something sealed can write it again without asking for a key: what was read once stays readable
    while the process lives, and nothing is asked of a keyring between a grant and its publication.
    """

    def __init__(
        self,
        home: Home,
        *,
        disk: Disk = DISK,
        keys: Iterable[SealKey] = (),
        keyring: SystemKeyring | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = home.seal
        self._locks = home.locks
        self._disk = disk
        self._keys = {key.id: key for key in keys}
        self._keyring = keyring or SystemKeyring()
        self._now = now
        self._faults: dict[str, tuple[float, type[TokenferryError], str]] = {}
        self._guard = threading.Lock()
        _seals.add(self)

    @classmethod
    def of(cls, home: Home) -> Self:
        """The one of this home in this process."""
        return _shared.setdefault(home.path, cls(home))  # type: ignore[return-value]  # nobody derives from it

    def marker(self) -> Marker | None:
        """What the home says of being sealed. Raises `CorruptFile`, `UnsafeFile`."""
        try:
            raw = self._disk.read(self.path)
        except FileNotFoundError:
            return None
        marker = Marker.from_bytes(raw)
        if marker is None:
            raise CorruptFile(
                f"{self.path} can't be understood; restore it from a backup, or remove it and run: tokenferry seal "
                f"(with {KEY_FILE} naming the key's file, if the key rests in one)"
            )
        return marker

    def mark(self, marker: Marker | None) -> None:
        """Say it anew. Only for who holds `held`. Raises `StorageFailed`."""
        remove_leftovers(self.path, disk=self._disk)
        if marker is None:
            remove_file(self.path, disk=self._disk)
        else:
            replace_private_file(self.path, marker.to_bytes(), disk=self._disk)

    def held(self) -> AbstractContextManager[None]:
        """Keep the marker as it is for a block. Taken for moments alone, after an account's lock. `LockTimeout`."""
        return FileLock(self.path, self._locks).held(_LOCK_WAIT)

    @property
    def keys(self) -> tuple[SealKey, ...]:
        """Those in memory."""
        return tuple(self._keys.values())

    def know(self, key: SealKey) -> None:
        """Keep a key in memory."""
        self._keys[key.id] = key
        self._faults.pop(key.id, None)

    def key(self, key: str) -> SealKey:
        """The key of that id. Raises `NeedsUnlock`, `SealKeyLost`, and `UnsafeFile` for a key file that isn't safe."""
        known = self._keys.get(key)
        if known is not None:
            return known
        with self._guard:
            if key in self._keys:
                return self._keys[key]
            failed_at, kind, text = self._faults.get(key, (float("-inf"), NeedsUnlock, ""))
            if self._now() - failed_at < _REMEMBER_FAULT:  # a listing of many accounts asks once
                raise kind(text)
            try:
                found = self._load(key)
            except TokenferryError as fault:
                self._faults[key] = (self._now(), type(fault), str(fault))
                raise
            self.know(found)
            return found

    def for_writing(self, used: SealKey | None, *, is_new: bool) -> SealKey | None:
        """With which key a document is to be written that was sealed with `used`; None for in clear.

        A new one isn't written without the home's key: `NeedsUnlock` is raised before there is anything to lose. One
        that is replaced is written in any case, as it was: it may be a grant's, and whoever seals the home, or takes
        another key, comes to it when its lock is free.
        """
        try:
            marker = self.marker()
            if marker is None:
                return used
            return None if marker.is_opening else self.key(marker.current)
        except TokenferryError:
            if is_new:
                raise
            return used

    def try_again(self) -> int:
        """For a watcher: ask again for keys that weren't to be had a while ago; gives what changes when one came."""
        for key, (failed_at, kind, _) in list(self._faults.items()):
            if issubclass(kind, NeedsUnlock) and self._now() - failed_at >= _TRY_AGAIN:
                try:
                    self.key(key)
                except TokenferryError:
                    continue
        return len(self._keys)

    def forget_guard(self) -> None:
        """In a forked child: a thread that held it isn't here."""
        self._guard = threading.Lock()

    # -- where keys rest

    def new_key(self, place: Place) -> SealKey:
        """Make a key and put it where it shall rest, durably, beside those that are there.

        Raises `ConfigError`, `NeedsUnlock`, `UnsafeFile`, `CorruptFile`, `StorageFailed`.
        """
        key = SealKey.new()
        if place.path is None:
            self._keyring.put(key)
        else:
            self._write_key_file(place.path, [key, *self._read_key_file(place.path)])
        self.know(key)
        return key

    def present_key(self, place: Place) -> SealKey | None:
        """The key to seal with that rests in a file already, if there is one."""
        keys = [] if place.path is None else self._read_key_file(place.path)
        if keys:
            self.know(keys[0])
        return keys[0] if keys else None

    def drop_key(self, key: str, place: Place) -> None:
        """Take a key out of its place, for good; one that is missing is fine. Raises what `new_key` does."""
        if place.path is None:
            self._keyring.remove(key)
            return
        present = self._read_key_file(place.path)
        left = [one for one in present if one.id != key]
        if len(left) == len(present):
            return
        if left:
            self._write_key_file(place.path, left)
        else:
            remove_file(place.path, disk=self._disk)

    def keyring_name(self) -> str:
        """What the system's keyring is called. Raises `ConfigError`, `NeedsUnlock`."""
        return self._keyring.name()

    def _load(self, key: str) -> SealKey:
        faults: list[TokenferryError] = []
        places = self._places(key)
        for place in places:
            try:
                found = self._look(key, place)
            except (NeedsUnlock, UnsafeFile, CorruptFile) as fault:
                faults.append(fault)
                continue
            if found is not None:
                return found
        if faults:
            raise faults[0]
        raise SealKeyLost(
            f"the key {key} is not in {' or '.join(map(str, places))}, and without it nobody can open what it sealed; "
            "bring the key back from a backup; if it is lost for good, so is what it sealed: remove the account with "
            "`tokenferry accounts remove NAME`, and log in again"
        )

    def _places(self, key: str) -> list[Place]:
        """Where the key may rest: in the file that the environment names, and where the home says."""
        named = os.environ.get(KEY_FILE)
        marker = self.marker()
        said = None if marker is None else marker.place_of(key)
        places = [Place(_absolute(named))] if named else []
        places += [said] if said is not None else [place for _, place in (marker.keys if marker else ())]
        return list(dict.fromkeys(places)) or [Place()]

    def _look(self, key: str, place: Place) -> SealKey | None:
        if place.path is None:
            try:
                return self._keyring.get(key)
            except ConfigError as fault:
                raise NeedsUnlock(str(fault)) from None
        try:
            return next((one for one in self._read_key_file(place.path, is_needed=True) if one.id == key), None)
        except FileNotFoundError:
            raise NeedsUnlock(
                f"the key file {place.path} isn't there; bring it back (is its disk mounted?), or say where it is with "
                f"{KEY_FILE}"
            ) from None

    def _read_key_file(self, path: Path, *, is_needed: bool = False) -> list[SealKey]:
        """The keys in a file, one a line. Raises `UnsafeFile`, `CorruptFile`; `FileNotFoundError` if it `is_needed`."""
        try:
            lines = self._disk.read(path).split(b"\n")
        except FileNotFoundError:
            if is_needed:
                raise
            return []
        keys = [SealKey.parse(line.decode("ascii", "replace").strip()) for line in lines if line.strip()]
        found = [key for key in keys if key is not None]
        del lines, keys  # a traceback shows the locals of this frame
        if not found:
            raise CorruptFile(
                f"{path} holds no sealing key; let tokenferry make one: name a file that isn't there yet with "
                f"{KEY_FILE}"
            )
        return found

    def _write_key_file(self, path: Path, keys: list[SealKey]) -> None:
        text = HiddenBytes(b"".join(b"%b\n" % key.secret.reveal().encode("ascii") for key in keys))
        replace_private_file(path, text, disk=self._disk)


def key_place() -> Place | None:
    """The file that TOKENFERRY_SEAL_KEY_FILE names, as the place of a key; None where it names none."""
    named = os.environ.get(KEY_FILE)
    return Place(_absolute(named)) if named else None


def _absolute(named: str) -> Path:
    try:
        return Path(named).expanduser().absolute()
    except RuntimeError:
        raise ConfigError(f"{KEY_FILE} names a home directory that is not known here; give a whole path") from None


def _after_fork() -> None:
    for seal in list(_seals):
        seal.forget_guard()


os.register_at_fork(after_in_child=_after_fork)
