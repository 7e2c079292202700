import contextlib
from collections.abc import Collection, Iterator
from typing import Final, Self

from msgspec.structs import replace

from tokenferry.accounts import SealResult, SealState, check_key_file
from tokenferry.broker._fleet_backend import FleetBackend
from tokenferry.errors import (
    Conflict,
    LockTimeout,
    NeedsUnlock,
    SealKeyLost,
    TokenferryError,
    TryLater,
    UnknownAccount,
    UsageError,
)
from tokenferry.fleet import CLEAR, FleetStore, Spill, Tables, shared_key
from tokenferry.sealing import KeyPlace, Marker, SealKey
from tokenferry.settings import Home, StoreSettings
from tokenferry.stores import Seal

_LOCK: Final = ":sealing"
"""No account's name has a colon."""
_LOCK_WAIT: Final = 60.0
_ROUNDS: Final = 3


class FleetSealing:
    """Seals and unseals the accounts that several hosts share: row by row, while all of them go on refreshing.

    The order makes it safe: a key is in this host's file before it is proposed, the database names it only once every
    live host can open it, and nothing is sealed with it before. A run that was cut short is continued by the next one,
    on any host; until then rows of both keys are open to all. Other hosts keep the old key until they are run there,
    too.
    """

    def __init__(self, home: Home, store: FleetStore, tables: Tables, spill: Spill, *, unsealed: bool = False) -> None:
        self._home = home
        self._store = store
        self._tables = tables
        self._spill = spill
        self._unsealed = unsealed

    @classmethod
    def of(cls, home: Home, settings: StoreSettings) -> Self:
        backend = FleetBackend(home, settings)
        return cls(home, backend.store, backend.tables, backend.spill, unsealed=settings.unsealed)

    @property
    def _seal(self) -> Seal:
        return self._store.seal

    def state(self) -> SealState:
        """How far the rows are sealed, as far as that shows without a key. Raises `StorageFailed`."""
        keys: dict[str, str | None] = {}
        broken: dict[str, TokenferryError] = {}
        for name in self._store.names():
            try:
                keys[name] = self._key_id(name)
            except UnknownAccount:
                continue
            except TokenferryError as fault:
                broken[name] = fault
        self._store.heartbeat.beat()  # which says what this host can open
        named, own = self._store.heartbeat.sealed_with or self._key_of_rows(), self._seal.marker()
        if named is None:
            named = None if own is None else own.current
        marker = None
        if named not in {None, CLEAR}:
            place = (own and own.place_of(named)) or (own.place if own else KeyPlace())
            marker = Marker(((named, place),), is_complete=None not in keys.values())
        return SealState(
            marker,
            tuple(name for name, key in keys.items() if key is not None and key == named),
            tuple(name for name, key in keys.items() if key is not None and key != named),
            tuple(name for name, key in keys.items() if key is None),
            broken,
        )

    def seal(self, place: KeyPlace | None = None, *, accept: Collection[str] = ()) -> SealResult:
        """Seal everything with the key that the hosts share, or continue a run; on a further host: use that key.

        Without such a key this host's is shared; `place` is where a new one is stored. Raises what `Sealing.seal` does,
        `SealKeyLost` where the hosts share a key that isn't here, `TryLater` where a live host lacks it.
        """
        with self._alone():
            named = self._named()
            if named is not None and named != CLEAR:
                return self._carry_out(self._shared_key(named, place), place, accept)
            marker = self._seal.marker()
            if marker is not None and not marker.is_opening:
                return self._carry_out(self._seal.key(marker.current), marker.place, accept)
            place = self._checked(place)
            return self._carry_out(self._seal.present_key(place) or self._seal.new_key(place), place, accept)

    def rotate(self, place: KeyPlace | None = None) -> SealResult:
        """Seal everything with a new key, or complete a rotation, this host's part of one included.

        Raises what `seal` does; where a live host lacks the new key, nothing is sealed with that yet.
        """
        with self._alone():
            named, marker = self._named(), self._seal.marker()
            if named is None or named == CLEAR or marker is None:
                raise UsageError(
                    "nothing is sealed here, so there is no key to replace; run: tokenferry encryption enable"
                )
            key = self._shared_key(named, None)
            if marker.current != named or not self._are_all(key):
                return self._carry_out(key, place)
            begun = (self._store.heartbeat.measure().next_key, *(key for key, _ in marker.keys[1:]))
            for one in begun:
                if one is not None and one not in {CLEAR, named} and self._seal.finds(one):
                    return self._carry_out(self._seal.key(one), place)
            place = self._checked(place or marker.place)
            return self._carry_out(self._seal.new_key(place), place)

    def unseal(self) -> SealResult:
        """Write everything in clear. Raises what `seal` does, and `UsageError` where that isn't allowed."""
        if not self._unsealed:
            raise UsageError(
                "accounts in a database are refused in clear, so they stay sealed; allow it first on every host with: "
                "tokenferry config set store.unsealed true"
            )
        with self._alone():
            for name in self._store.names():
                try:
                    self._store.read(name)  # before any change: every key must be here
                except (NeedsUnlock, SealKeyLost):
                    raise
                except TokenferryError:
                    continue
            return self._carry_out(None)

    def check_forgettable(self) -> None:
        """Raise `UsageError`: each host has the old key in a file of its own."""
        raise UsageError(
            "other hosts may need the old key, so --forget-key does nothing here; run the command without it, run "
            "`tokenferry encryption enable` on each other host, then remove the old key's line from every key file"
        )

    def forget(self, result: SealResult) -> None:  # noqa: ARG002  # as `Sealing` has it
        """Raise `UsageError`, as `check_forgettable` does."""
        self.check_forgettable()

    # -- the steps

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Exclude other sealing, of any host; where the lock lapses, two runs still do no harm to each other."""
        try:
            with self._store.exclusive(_LOCK, _LOCK_WAIT):
                self._store.heartbeat.beat()  # which says what this host can open
                yield
        except LockTimeout as fault:
            raise TryLater(f"{fault.holder} seals accounts now; try again when it is done") from None

    def _carry_out(
        self, key: SealKey | None, place: KeyPlace | None = None, accept: Collection[str] = ()
    ) -> SealResult:
        if key is not None:
            self._note(key, place)
        self._share(key)
        if key is None and (marker := self._seal.marker()) is not None:
            self._mark(replace(marker, is_opening=True, is_complete=False))
        changed: list[str] = []
        faults: dict[str, TokenferryError] = {}
        for _ in range(_ROUNDS):  # accounts may be added during a round
            faults = self._visit(key, changed, accept)
            if all(isinstance(fault, Conflict) for fault in faults.values()) and self._are_all(key):
                break
        before = self._seal.marker()
        old = () if before is None else tuple(one for one in before.keys if key is None or one[0] != key.id)
        if faults:
            return SealResult(tuple(changed), faults, before)
        left = None if key is None else self._mark(Marker(((key.id, self._place_of(key)),)))
        if key is None:
            with self._seal.held():
                self._seal.mark(None)
        return SealResult(tuple(changed), {}, left, old)

    def _share(self, key: SealKey | None) -> None:
        """Have the database name the key. Raises `TryLater` while a live host can't open it."""
        target = CLEAR if key is None else key.id
        if self._store.heartbeat.measure().sealed_with == target:
            return
        self._tables.propose(target)
        self._store.heartbeat.beat()  # this host can
        if self._tables.adopt(target):
            self._store.heartbeat.measure()
            return
        lacking = ", ".join(map(str, shared_key(self._tables).lacking(target)))
        if key is None:
            raise TryLater(
                f"everything stays sealed: [store] unsealed = true is missing on {lacking or 'another host'}; set it "
                "there, run there: tokenferry encryption status, and then this again"
            )
        raise TryLater(
            f"nothing is sealed with the key {target} yet, which {lacking or 'another host'} can't open; copy "
            f"{self._place_of(key)} there, run there: tokenferry encryption enable, and then this again (a host that "
            "is gone: tokenferry store forget-host)"
        )

    def _visit(self, key: SealKey | None, changed: list[str], accept: Collection[str]) -> dict[str, TokenferryError]:
        faults: dict[str, TokenferryError] = {}
        for name in sorted({*self._store.names(), *self._spill.accounts()}):
            try:
                with self._store.exclusive(name, _LOCK_WAIT):
                    with contextlib.suppress(UnknownAccount):  # of one removed the spill may hold an answer
                        if self._store.reseal(name, key, accept_clear=name in accept) and name not in changed:
                            changed.append(name)
                    self._spill.rewrite(name, key)
            except TokenferryError as fault:
                faults[name] = fault
        return faults

    def _note(self, key: SealKey, place: KeyPlace | None) -> None:
        """Have this host's marker name the key, beside those that it has."""
        marker = self._seal.marker()
        if marker is not None and not marker.is_opening and marker.place_of(key.id) is not None:
            return
        kept = () if marker is None else tuple(one for one in marker.keys if one[0] != key.id)
        kept = tuple(one for one in kept if self._seal.finds(one[0]))
        is_complete = marker is not None and marker.is_complete and not marker.is_opening
        self._mark(Marker((*kept, (key.id, place or self._seal.where(key.id))), is_complete=is_complete))

    def _mark(self, marker: Marker) -> Marker:
        signed = self._seal.signed(marker)
        with self._seal.held():
            self._seal.mark(signed)
        return signed

    def _place_of(self, key: SealKey) -> KeyPlace:
        marker = self._seal.marker()
        return (marker and marker.place_of(key.id)) or self._seal.where(key.id)

    def _checked(self, place: KeyPlace | None) -> KeyPlace:
        if place is None or place.path is None:
            raise UsageError(
                "several hosts share the key, so it must be in a file that you can copy to each; name one with "
                "TOKENFERRY_SEAL_KEY_FILE"
            )
        check_key_file(self._home, place.path)
        return place

    def _shared_key(self, named: str, place: KeyPlace | None) -> SealKey:
        if not self._seal.finds(named, place):
            raise SealKeyLost(
                f"the hosts seal accounts with the key {named}, which isn't here; copy its file from one of them, and "
                "name it with TOKENFERRY_SEAL_KEY_FILE"
            )
        return self._seal.key(named)

    def _named(self) -> str | None:
        return self._store.heartbeat.measure().sealed_with or self._key_of_rows()

    def _key_of_rows(self) -> str | None:
        """The key of the rows of a database that names none, as an earlier version left it; this host's, of several."""
        keys: set[str | None] = set()
        for name in self._store.names():
            with contextlib.suppress(TokenferryError):
                keys.add(self._key_id(name))
        keys.discard(None)
        own = self._seal.marker()
        return own.current if own is not None and own.current in keys else min(filter(None, keys), default=None)

    def _key_id(self, name: str) -> str | None:
        header = self._store.header(name)
        return None if header is None else header.key

    def _are_all(self, key: SealKey | None) -> bool:
        wanted = None if key is None else key.id
        for name in self._store.names():
            with contextlib.suppress(UnknownAccount):
                if self._key_id(name) != wanted:
                    return False
        return True
