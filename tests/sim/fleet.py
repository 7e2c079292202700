"""Hosts that share one login in one virtual database, each with a disk for its spill and a process that stays."""

import contextlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace
from typing_extensions import override

from sim.database import Rules, VirtualDatabase, VirtualTables
from sim.disk import VirtualDisk
from sim.schedule import check, heal_and_try
from sim.world import BOOT, KEY, NAME, Machine, Process, Sending, VirtualSeal, Weather
from tokenferry.errors import StorageFailed, TokenferryError
from tokenferry.fleet import AccountRecord, FleetJournal, FleetStore, Order, RowLock, Spill
from tokenferry.oauth import OAuthEndpoints
from tokenferry.refresh import FlowContext, RefreshRequest, Result
from tokenferry.refresh import _effects as effects
from tokenferry.refresh._flow import refresh_flow
from tokenferry.sealing import KeyPlace, Marker
from tokenferry.secret import Secret
from tokenferry.settings import Home
from tokenferry.stores import Document, ProcessIdentity, Seal, Store

_HOSTS: Final = 3
_HOUR: Final = 3600.0
_HOME: Final = Home(Path("/virtual"))
_SPILL: Final = _HOME.path / "spill"
_BEAT: Final = 5.0
_PERIOD: Final = 6
"""Beats in which a heartbeat has done everything that it does."""
_RESTLESS: Final = 300.0
"""Seconds for which the staying processes beat after something happened."""


@dataclass
class FleetWeather:
    """What befalls a fleet besides: probabilities and sizes, drawn once per schedule."""

    cut: float = 0.0
    longest_cut: float = 70.0
    failover: float = 0.0
    longest_lag: float = 8.0
    restart: float = 0.0
    doubt: float = 0.0
    skew: float = 0.0
    login: float = 0.3
    is_lockless: bool = False


@dataclass
class Code:
    """The classes under test, which mutants take the place of."""

    journal: type[FleetJournal] = FleetJournal
    store: type[FleetStore] = FleetStore
    rules: Rules = field(default_factory=Rules)


@dataclass(eq=False)
class Host:
    """One machine: its disk, its clock's error in seconds, and whether it reaches the database."""

    name: str
    disk: VirtualDisk
    seal: Seal
    skew: float = 0.0
    is_cut: bool = False


class Member:
    """What one process of a host has: store, journal, and the memory in them."""

    def __init__(self, fleet: "Fleet", host: Host) -> None:
        self.host = host
        self.tables = VirtualTables(
            fleet.database,
            fleet.rng,
            fleet.code.rules,
            is_cut=lambda: host.is_cut,
            doubt=lambda: fleet.trouble.doubt,
            later=fleet.later,
            host_now=lambda: fleet.time + host.skew,
            is_lockless=fleet.trouble.is_lockless,
        )
        spill = Spill(_SPILL, seal=host.seal, disk=host.disk)
        self.store = fleet.code.store(
            self.tables,
            host.seal,
            spill,
            unsealed=True,
            monotonic=lambda: fleet.time,
            now=lambda: fleet.time + host.skew,
            is_gone=fleet._is_gone,
        )
        self.heartbeat = self.store.heartbeat
        self.journal = fleet.code.journal(self.tables, spill, self.heartbeat, host.name, monotonic=lambda: fleet.time)
        self.lock: RowLock | None = None
        self.stamps: Mapping[str, Order] = {}
        self.seen: object = None
        self.idle_beats = 0
        """How many have come and gone in a row without a change of what was seen."""
        self.now: Callable[[], float] = lambda: fleet.time + host.skew + self.heartbeat.offset

    def beat(self) -> None:
        with contextlib.suppress(StorageFailed):
            self.heartbeat.beat()

    def catch_up(self, seen: object) -> None:
        """What a process that stays does every 5 seconds: beat, and read what was changed.

        `seen` stands for all that this depends on: once it has led to nothing for so many beats that everything
        periodic was among them, it will lead to nothing again.
        """
        if seen != self.seen:
            self.seen, self.idle_beats = seen, 0
        if self.idle_beats > _PERIOD:
            return
        try:
            self.heartbeat.beat()
            if (stamps := self.tables.stamps()) != self.stamps:
                self.store.read(NAME)
                self.stamps = stamps
            self.idle_beats += 1
        except TokenferryError:
            self.idle_beats = self.idle_beats + 1 if self.host.is_cut else 0


class Fleet(Machine):
    """The simulation of several hosts. `disk`, `store` and `journal` are those of the process that acts."""

    def __init__(
        self, seed: int, weather: Weather, trouble: FleetWeather | None = None, code: Code | None = None
    ) -> None:
        self.trouble = trouble or FleetWeather()
        self.code = code or Code()
        self.hosts: list[Host] = []
        self.members: dict[Process, Member] = {}
        self.restless_until = 0.0
        self.ends = 0
        """Processes that ended by themselves."""
        super().__init__(seed, weather, refresh_flow)
        self.staying = [Member(self, host) for host in self.hosts]
        self.disturb()

    @override
    def _open_store(self) -> Store:
        self.database = VirtualDatabase(now=lambda: self.time, replaced=self._replaced)
        for number in range(_HOSTS):
            disk = self.disk if number == 0 else VirtualDisk(self.rng)
            seal = VirtualSeal(_HOME, disk=disk, keys=[KEY])
            if self.is_sealed:
                seal.mark(Marker(((KEY.id, KeyPlace()),)))
            skew = self.rng.uniform(-300, 300) if self.rng.random() < self.trouble.skew else 0.0
            self.hosts.append(Host(f"host{number}", disk, seal, skew))
        self.bystander = FleetStore(
            VirtualTables(self.database, random.Random(0), Rules()),
            self.hosts[0].seal,
            Spill(Path("/nowhere/spill"), seal=self.hosts[0].seal, disk=VirtualDisk(random.Random(0))),
            unsealed=True,
        )
        return self.bystander

    @override
    def document(self) -> Document:
        with self.hosts[0].disk.undisturbed():
            return self.bystander.read(NAME)

    # -- processes

    @override
    def spawn(self, job: RefreshRequest) -> Process:
        host = self.rng.choice(self.hosts)
        member = Member(self, host)
        number = len(self.processes)
        identity = ProcessIdentity(number + 100, str(number), BOOT, instance=host.name)
        process = Process(identity, job)
        member.beat()
        context = FlowContext(
            endpoints=lambda _: OAuthEndpoints(
                token_endpoint="https://auth.invalid/token", client_id="c", reuse_grace=self.weather.grace
            ),
            client_secret=lambda _: None,
            now=member.now,
            machine="m",
            process=identity,
            is_gone=lambda other: other.instance in {"", host.name} and self._is_gone(other),
            settings=self.settings,
            jitter=lambda: self.rng.uniform(0.5, 1.0),
            monotonic=lambda: self.time,
        )
        process.flow = self.make_flow(job, context)
        self.processes.append(process)
        self.members[process] = member
        self.note(f"p{identity.pid} of {host.name} starts {job}")
        self.later(self._latency(process), lambda: self._advance(process, None))
        self.later(_BEAT, lambda: self._beat_of(process))
        self.disturb()
        return process

    def _beat_of(self, process: Process) -> None:
        if process.flow is not None:
            if process.asleep_until <= self.time:
                self.members[process].beat()
                self._check_holders()
            self.later(_BEAT, lambda: self._beat_of(process))

    @override
    def _end(self, process: Process, ended: Result | TokenferryError) -> None:
        self.ends += 1
        super()._end(process, ended)

    def disturb(self) -> None:
        """Something happened: the processes that stay beat for a while."""
        if self.time >= self.restless_until:
            for member in self.staying:
                self.later(self.rng.uniform(0, _BEAT), partial(self._stay, member))
        self.restless_until = self.time + _RESTLESS

    def _stay(self, member: Member) -> None:
        host, database = member.host, self.database
        member.catch_up((len(database.history), database.server, host.is_cut, host.disk.writes, self.kills + self.ends))
        if self.time < self.restless_until:
            self.later(_BEAT, lambda: self._stay(member))

    @override
    def _enter(self, process: Process) -> None:
        member = self.members[process]
        self.disk, self.store, self.journal = member.host.disk, member.store, member.journal

    @override
    def power_cut(self) -> None:
        """One host loses its power, and all that its disk didn't sync; its staying process comes back."""
        host = self.rng.choice(self.hosts)
        self.note(f"power cut at {host.name}")
        mine = {process for process, member in self.members.items() if member.host is host}
        for process in mine:
            if process.flow is not None:
                self.kill(process)
        host.disk.power_cut()
        ids = {sending.id for process in mine if (sending := process.sending)}
        for sending in self.sent:
            if sending.id in ids:
                sending.settled = sending.durable
        self.staying = [Member(self, host) if member.host is host else member for member in self.staying]
        self.restless_until = 0.0
        self.disturb()

    # -- the lock

    @override
    def _acquire(self, process: Process, effect: effects.Acquire) -> None:
        lock = self.members[process].lock = self.members[process].store.lock(NAME)
        deadline = self.time + effect.timeout

        def take() -> None:
            if process.flow is None:
                return
            try:
                program = lock.try_acquire()
            except StorageFailed as fault:
                self._advance(process, fault)
                return
            if program is None:
                self._check_holders()
                self.later(self._latency(process), lambda: self._advance(process, None))
            elif self.time >= deadline:
                self._advance(process, program)
            else:
                self.later(self.rng.uniform(0.1, 0.5), take)

        take()

    def _check_holders(self) -> None:
        held = [one for one in self.processes if one.flow is not None and self._still_held(one)]
        if len(held) > 1 and not self.trouble.is_lockless and self.time > self.database.wiped_at + 20.0:
            self.violations.append(f"{len(held)} processes hold the lock for certain")

    @override
    def _still_held(self, process: Process) -> bool:
        lock = self.members[process].lock
        return lock is not None and lock.is_still_ours()

    @override
    def _release(self, process: Process) -> None:
        if (lock := self.members[process].lock) is not None:
            lock.release()

    # -- what is on record

    @override
    def _perform_now(self, process: Process, effect: effects.Effect) -> Any:
        replaced, _ = self.database.contents.attempts.get(NAME, (None, 0.0))
        done = super()._perform_now(process, effect)
        if isinstance(effect, effects.RecordAttempt) and replaced and effect.attempt.tries > replaced.tries:
            for sending in self.sent:  # nobody but its own host can know that it was never sent
                sending.is_noted |= sending.id == replaced.id
        return done

    @override
    def _publish(self, process: Process, expected: int, document: Document, presented: str | None) -> None:
        assert presented is not None
        self.members[process].store.publish(NAME, expected, document, presented)
        self.note(f"p{process.identity.pid} publishes {document.credential.secret.fingerprint}")
        own = self.disk
        for host in self.hosts:
            self.disk = host.disk
            self._check_sealed(document.credential)  # type: ignore[arg-type]  # an OAuth token
        self.disk = own

    def _replaced(self, old: AccountRecord, new: AccountRecord, *, is_later: bool) -> None:
        """No write may take the place of a login that is alive, but for a person's new one.

        A later row that a failover lost may be such a login.
        """
        alive = {Secret(one.live).sha256 for one in self.server.families if not one.is_revoked}
        self.note(f"generation {old.generation} is replaced by {new.generation}")
        used = {Secret(token).sha256 for one in self.server.families if not one.is_revoked for token in one.used}
        is_login = self.is_logging_in or (is_later and new.refresh in alive | used)
        if old.refresh != new.refresh and old.refresh in alive and not is_login:
            self.violations.append("a live login is overwritten")

    is_logging_in = False

    def log_in(self) -> None:
        """A person logs in anew."""
        self.is_logging_in = True
        with contextlib.suppress(TokenferryError):
            document = self.document()
            tokens = self.server.login()
            token = replace(
                document.credential,
                secret=Secret(tokens["access_token"]),
                refresh=Secret(tokens["refresh_token"]),
                expires_at=int(self.time) + self.server.lifetime,
            )
            self.bystander.swap(NAME, document.generation, replace(document, credential=token))
            self.note(f"a new login: {tokens['refresh_token']}")
        self.is_logging_in = False

    @override
    def _is_recorded(self, sending: Sending) -> bool:
        return any(host.disk.exists(_entry(sending)) for host in self.hosts)

    @override
    def _is_noted(self, sending: Sending) -> bool:
        return any(host.disk.first_byte(_entry(sending)) not in {None, b"B"} for host in self.hosts)

    @override
    def _ending(self, process: Process, action: Callable[[], None]) -> None:
        try:
            action()
            self._settle(process, durable=True)
        finally:
            recorded, _ = self.database.contents.attempts.get(NAME, (None, 0.0))
            if (sending := process.sending) is not None:
                is_ended = self.disk.first_byte(_entry(sending)) in {None, b"C", b"D"}  # its host ends it for everybody
                if is_ended or recorded is None or recorded.id != sending.id:
                    self._settle(process, durable=True)


def _entry(sending: Sending) -> Path:
    return _SPILL / f"{NAME}~{sending.id}.attempt"


def draw_fleet(rng: random.Random) -> tuple[Weather, FleetWeather]:
    """A few troubles at a time. No answer is lost for good, so that no refresh token may be presented twice."""

    def maybe(probability: float, strength: float) -> float:
        return strength if rng.random() < probability else 0.0

    weather = Weather(
        not_sent=maybe(0.2, 0.3),
        server_error=maybe(0.3, 0.4),
        kill=maybe(0.3, 0.15),
        power_cut=maybe(0.2, 0.5),
        suspend=maybe(0.3, 0.05),
        slow=maybe(0.3, 0.5),
    )
    trouble = FleetWeather(
        cut=maybe(0.5, 0.7),
        failover=maybe(0.4, 0.8),
        restart=maybe(0.2, 0.5),
        doubt=maybe(0.3, 0.15),
        skew=maybe(0.3, 0.5),
        is_lockless=rng.random() < 0.3,
    )
    return weather, trouble


def run_fleet(seed: int, code: Code | None = None, conditions: tuple[Weather, FleetWeather] | None = None) -> Fleet:
    """Run the schedule of a seed, under the conditions that it draws or those; its `violations` say what broke."""
    rng = random.Random(seed)
    drawn = draw_fleet(rng)
    weather, trouble = conditions or drawn
    fleet = Fleet(seed, weather, trouble, code)
    for hour in range(2):
        for _ in range(rng.randint(2, 5)):
            start = hour * (_HOUR + 5) + rng.choice((0.0, rng.uniform(0, 0.3), rng.uniform(0, 40), rng.uniform(0, 200)))
            fleet.later(start, lambda: _spawn(fleet, rng))
        _mishaps(fleet, rng, hour * (_HOUR + 5))
    fleet.run(fleet.time + 3 * _HOUR)
    for host in fleet.hosts:
        host.is_cut = False
    fleet.trouble = FleetWeather()
    fleet.database.is_away = False
    fleet.disturb()
    fleet.run(fleet.time + 600)
    if not any(process.flow for process in fleet.processes):
        heal_and_try(fleet)
    check(fleet)
    return fleet


def _spawn(fleet: Fleet, rng: random.Random) -> None:
    token = fleet.document().credential
    refused = token.secret.sha256 if rng.random() < 0.2 else None
    fleet.spawn(RefreshRequest(NAME, needs=30.0, refused=refused))


def _mishaps(fleet: Fleet, rng: random.Random, start: float) -> None:
    def soon() -> float:
        return start + rng.choice((rng.uniform(0, 0.5), rng.uniform(0, 5), rng.uniform(0, 60)))

    trouble = fleet.trouble
    for host in fleet.hosts:
        if rng.random() < trouble.cut:
            at = soon()
            fleet.later(at, partial(_cut, fleet, host, is_cut=True))
            fleet.later(at + rng.uniform(1, trouble.longest_cut), partial(_cut, fleet, host, is_cut=False))
    if rng.random() < trouble.failover:
        lag = rng.uniform(0, trouble.longest_lag)
        fleet.later(soon(), lambda: _fail_over(fleet, lag))
    if rng.random() < trouble.restart:
        fleet.later(soon(), lambda: _fail_over(fleet, None))
    if rng.random() < fleet.weather.power_cut:
        fleet.later(soon(), fleet.power_cut)
    if rng.random() < trouble.login:
        fleet.later(soon(), fleet.log_in)


def _cut(fleet: Fleet, host: Host, *, is_cut: bool) -> None:
    fleet.note(f"{host.name} {'loses' if is_cut else 'reaches'} the database")
    host.is_cut = is_cut
    fleet.disturb()


def _fail_over(fleet: Fleet, lag: float | None) -> None:
    fleet.note("the database restarts" if lag is None else f"a failover loses {lag:.1f} s")
    if lag is None:
        fleet.database.restart()
    else:
        fleet.database.fail_over(lag)
    fleet.disturb()
