"""Whether a home is sealed, and its keys, which are read once and then held in memory."""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, Self

from tokenferry.background import after_fork_in_child
from tokenferry.errors import ConfigError, CorruptFile, NeedsUnlock, SealKeyLost, TokenferryError, UnsafeFile
from tokenferry.sealing import KeyPlace, Marker, SealKey, SystemKeyring
from tokenferry.secret import HiddenBytes, parse_object
from tokenferry.settings import Home
from tokenferry.stores._files import DISK, Disk, remove_file, remove_leftovers, replace_private_file
from tokenferry.stores._lock import FileLock
from tokenferry.stores._sealed import SealedDocument, parse_sealed

logger = logging.getLogger(__name__)

KEY_FILE: Final = "TOKENFERRY_SEAL_KEY_FILE"
_LOCK_WAIT: Final = 30.0
_REMEMBER_FAULT: Final = 2.0
_TRY_AGAIN: Final = 5.0

_shared: Final[dict[Path, "Seal"]] = {}


class Seal:
    """The sealing of one home, shared by all stores and journals of this process through `Seal.of(home)`.

    A key that was used once stays in memory, so that no keyring is asked between a grant and the write of its token.
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
        self._accounts = home.accounts
        self._locks = home.locks
        self._disk = disk
        self._keys = {key.id: key for key in keys}
        self._keyring = keyring or SystemKeyring()
        self._now = now
        self._faults: dict[str, tuple[float, type[TokenferryError], str]] = {}
        self._guard = threading.Lock()
        self._used: dict[str, SealKey] = {}
        self._vouched: bytes | None = None
        self._refused: tuple[bytes, float, CorruptFile] | None = None
        self._reported = ""
        self._sealed_at: tuple[int, bool] | None = None
        after_fork_in_child(self._forget_guard)

    @classmethod
    def of(cls, home: Home) -> Self:
        """Give the one of this home in this process."""
        return _shared.setdefault(home.path, cls(home))  # type: ignore[return-value]  # it has no subclass

    def marker(self) -> Marker | None:
        """Read the home's marker, without checking it. Raises `CorruptFile`, `UnsafeFile`."""
        raw = self._raw()
        return None if raw is None else self._parsed(raw)

    def _raw(self) -> bytes | None:
        try:
            return self._disk.read(self.path)
        except FileNotFoundError:
            return None

    def _parsed(self, raw: bytes) -> Marker:
        marker = Marker.from_bytes(raw)
        if marker is None:
            raise CorruptFile(
                f"{self.path} can't be understood; restore it from a backup, or remove it and run: tokenferry "
                f"encryption enable (with {KEY_FILE} naming the key's file, if the key is stored in one)"
            )
        return marker

    def checked(self) -> Marker | None:
        """Read the marker and check the signatures of its keys.

        A marker of version 1 has no signatures. It is accepted once, if it names one key that opens every document, and
        is signed then. Raises `CorruptFile` for a marker written without the keys, `NeedsUnlock`, `SealKeyLost`, and
        what `marker` does.
        """
        while (raw := self._raw()) is not None and raw != self._vouched:
            marker = self._parsed(raw)
            refused, at, fault = self._refused or (None, 0.0, None)
            if refused == raw and fault is not None and self._now() - at < _REMEMBER_FAULT:
                raise CorruptFile(str(fault))
            if reason := self._doubt(marker):
                fault = CorruptFile(
                    f"{self.path} can't be trusted, because {reason}; what is sealed stays sealed, and no account is "
                    "added until you run: tokenferry encryption enable (or tokenferry encryption disable)"
                )
                if self._raw() != raw:  # another process went on with sealing while the documents were looked at
                    continue
                self._refused = raw, self._now(), fault
                raise fault
            self._vouched = raw
            if not marker.tags:
                self._sign(raw, marker)
        return None if raw is None else self._parsed(raw)

    def _doubt(self, marker: Marker) -> str | None:
        """Say why the marker can't be trusted. Raises `NeedsUnlock`, `SealKeyLost`."""
        for _, key_place in marker.keys:
            if key_place.path is not None and key_place.path.resolve().is_relative_to(self.path.parent.resolve()):
                return f"it names a key file in the folder that it seals, {key_place.path}"
        documents = list(self.documents())
        for place, document in documents:
            if document is not None and marker.place_of(document.header.key) is None:
                return f"it doesn't name the key {document.header.key}, with which {place} is sealed"
        if marker.tags:
            strangers = [key for key, _ in marker.keys if not marker.is_signed_by(self.key(key))]
            return f"it is not as the key {strangers[0]} signed it" if strangers else None
        return self._doubt_unsigned(marker, documents)

    def _doubt_unsigned(self, marker: Marker, documents: Iterable[tuple[str, SealedDocument | None]]) -> str | None:
        """Say why a marker of version 1 can't be trusted."""
        if marker.is_opening or len(marker.keys) > 1:
            return "it has no signature"
        key = self.key(marker.current)
        for place, document in documents:
            try:
                if document is None:
                    return f"it has no signature, and {place} is in clear"
                document.open(key, place)
            except CorruptFile:
                return f"it has no signature, and its key doesn't open {place}"
        return None

    def _sign(self, raw: bytes, marker: Marker) -> None:
        """Sign a marker of version 1, unless another process is changing it or the home is read-only."""
        with contextlib.suppress(TokenferryError), FileLock(self.path, self._locks).held(0):
            if self._raw() == raw:
                self.mark(self.signed(marker))

    def signed(self, marker: Marker) -> Marker:
        """Give the marker with the signatures of its keys. Raises what `key` does."""
        return marker.signed([self.key(key) for key, _ in marker.keys])

    def documents(self) -> Iterator[tuple[str, SealedDocument | None]]:
        """Give the sealed form of each account's document; None for an unencrypted one.

        Unreadable documents are left out.
        """
        for name in self._disk.names(self._accounts):
            if name.endswith(".json") and not name.startswith("."):
                path = self._accounts / name
                with contextlib.suppress(TokenferryError, FileNotFoundError):
                    raw = HiddenBytes(self._disk.read(path))
                    if (fields := parse_object(raw)) is not None:
                        yield str(path), parse_sealed(raw, fields, path.stem, str(path))

    def refuses_clear(self) -> bool:
        """Tell whether an unencrypted document must come from another program, since the home is sealed.

        The same holds beside sealed documents without a marker, since our commands remove the marker last. Raises what
        `checked` does.
        """
        marker = self.checked()
        return self.has_sealed() if marker is None else marker.is_complete and not marker.is_opening

    def has_sealed(self) -> bool:
        """Tell whether any document was sealed at the last change of their folder."""
        try:
            changed = self._accounts.stat().st_mtime_ns
        except OSError:
            return False
        if self._sealed_at is None or self._sealed_at[0] != changed:
            self._sealed_at = changed, any(document is not None for _, document in self.documents())
        return self._sealed_at[1]

    def mark(self, marker: Marker | None) -> None:
        """Replace the marker. Needs `held`. Raises `StorageFailed`."""
        remove_leftovers(self.path, disk=self._disk)
        if marker is None:
            remove_file(self.path, disk=self._disk)
        else:
            replace_private_file(self.path, marker.to_bytes(), disk=self._disk)

    def held(self) -> AbstractContextManager[None]:
        """Lock the marker for a short block, after an account's lock. Raises `LockTimeout`."""
        return FileLock(self.path, self._locks).held(_LOCK_WAIT)

    @property
    def keys(self) -> tuple[SealKey, ...]:
        """Give the keys in memory."""
        return tuple(self._keys.values())

    def know(self, key: SealKey) -> None:
        """Hold a key in memory."""
        self._keys[key.id] = key
        self._faults.pop(key.id, None)

    def key(self, key: str) -> SealKey:
        """Give the key with that id. Raises `NeedsUnlock`, `SealKeyLost`, and `UnsafeFile` for an unsafe key file."""
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

    def used(self, name: str) -> SealKey | None:
        """Give the key that sealed the account's document when this process last read it."""
        return self._used.get(name)

    def note_used(self, name: str, key: SealKey | None) -> None:
        """Note the key that seals the account's document; None if it is unencrypted."""
        if key is None:
            self._used.pop(name, None)
        else:
            self._used[name] = key

    def for_writing(self, used: SealKey | None, *, is_new: bool) -> SealKey | None:
        """Give the key for something that was sealed with `used`; None to write it unencrypted.

        What was sealed stays sealed, whatever the marker says: only `encryption disable` writes it unencrypted. New
        content needs the home's key, so `NeedsUnlock` and `CorruptFile` are raised while nothing can be lost. A
        replacement is always written as it was, because it may hold a grant; a command that changes the sealing
        rewrites it once its lock is free.
        """
        try:
            marker = self.checked()
            if marker is None or marker.is_opening:
                return used
            if used is not None and marker.place_of(used.id) is None:
                return used
            return self.key(marker.current)
        except TokenferryError as fault:
            if used is None and is_new:
                raise
            self._report(fault)
            return used

    def for_new(self) -> SealKey | None:
        """Give the key for a new account; None to write it unencrypted.

        Raises what `for_writing` does, and `CorruptFile` if accounts are sealed but the marker is missing.
        """
        key = self.for_writing(None, is_new=True)
        if key is None and self.marker() is None and self.has_sealed():
            raise CorruptFile(
                f"{self.path} is gone, and accounts are sealed, so a new one would be written in clear beside them; "
                f"restore it from a backup, or run: tokenferry encryption enable (with {KEY_FILE} naming the key's "
                "file, if the key is stored in one)"
            )
        return key

    def _report(self, fault: TokenferryError) -> None:
        if not isinstance(fault, NeedsUnlock) and str(fault) != self._reported:
            self._reported = str(fault)
            logger.warning("%s", fault)

    def try_again(self) -> int:
        """Ask again for keys that were unavailable a while ago. Gives a value that changes when one is found."""
        for key, (failed_at, kind, _) in list(self._faults.items()):
            if issubclass(kind, NeedsUnlock) and self._now() - failed_at >= _TRY_AGAIN:
                try:
                    self.key(key)
                except TokenferryError:
                    continue
        return len(self._keys)

    def _forget_guard(self) -> None:
        """Replace the lock in a forked child, where the thread that held it doesn't exist."""
        self._guard = threading.Lock()

    # -- places of keys

    def new_key(self, place: KeyPlace) -> SealKey:
        """Make another key and store it durably.

        Raises `ConfigError`, `NeedsUnlock`, `UnsafeFile`, `CorruptFile`, `StorageFailed`.
        """
        key = SealKey.new()
        if place.path is None:
            self._keyring.put(key)
        else:
            self._write_key_file(place.path, [key, *self._read_key_file(place.path)])
        self.know(key)
        return key

    def present_key(self, place: KeyPlace) -> SealKey | None:
        """Give the key to seal with that a file already holds; None without one."""
        keys = [] if place.path is None else self._read_key_file(place.path)
        if keys:
            self.know(keys[0])
        return keys[0] if keys else None

    def drop_key(self, key: str, place: KeyPlace) -> None:
        """Delete a key from its place for good; do nothing if it is missing. Raises what `new_key` does."""
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
        """Give the name of the system's keyring. Raises `ConfigError`, `NeedsUnlock`."""
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
            f"the key {key} is not in {' or '.join(map(str, places))}, and what it sealed can't be opened without it; "
            "bring the key back from a backup; if it is lost for good, so is what it sealed: remove the account with "
            "`tokenferry account remove NAME`, and log in again"
        )

    def finds(self, key: str, place: KeyPlace | None = None) -> bool:
        """Tell whether the key with that id can be read now, from this place or its other ones, not from memory."""
        for one in self._places(key) if place is None else (place, *self._places(key)):
            with contextlib.suppress(TokenferryError):
                if (found := self._look(key, one)) is not None:
                    self.know(found)
                    return True
        return False

    def _places(self, key: str) -> list[KeyPlace]:
        """Give the places of the key: the file that the environment names, and the place that the home names."""
        named = os.environ.get(KEY_FILE)
        marker = self.marker()
        said = None if marker is None else marker.place_of(key)
        places = [KeyPlace(_absolute(named))] if named else []
        places += [said] if said is not None else [place for _, place in (marker.keys if marker else ())]
        return list(dict.fromkeys(places)) or [KeyPlace()]

    def where(self, key: str) -> KeyPlace:
        """Give the place where the key is now. Raises what `key` does."""
        for place in self._places(key):
            with contextlib.suppress(NeedsUnlock, UnsafeFile, CorruptFile):
                if self._look(key, place) is not None:
                    return place
        self.key(key)
        return key_place() or KeyPlace()

    def _look(self, key: str, place: KeyPlace) -> SealKey | None:
        if place.path is None:
            try:
                return self._keyring.get(key)
            except ConfigError as fault:
                raise NeedsUnlock(str(fault)) from None
        try:
            return next((one for one in self._read_key_file(place.path, is_needed=True) if one.id == key), None)
        except FileNotFoundError:
            raise NeedsUnlock(
                f"the key file {place.path} isn't there; restore it (is its disk mounted?), or say where it is with "
                f"{KEY_FILE}"
            ) from None

    def _read_key_file(self, path: Path, *, is_needed: bool = False) -> list[SealKey]:
        """Read the keys of a file, one a line.

        Raises `UnsafeFile`, `CorruptFile`; `FileNotFoundError` if it `is_needed`.
        """
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


def key_place() -> KeyPlace | None:
    """Give the file that TOKENFERRY_SEAL_KEY_FILE names, as the place of a key; None if it isn't set."""
    named = os.environ.get(KEY_FILE)
    return KeyPlace(_absolute(named)) if named else None


def _absolute(named: str) -> Path:
    try:
        return Path(named).expanduser().absolute()
    except RuntimeError:
        raise ConfigError(f"{KEY_FILE} names a home directory that is not known here; give a whole path") from None
