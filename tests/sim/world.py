"""Virtual processes on one virtual machine, stepped by one queue of events in virtual time."""

import contextlib
import heapq
import random
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from typing_extensions import override

from sim.disk import Killed, VirtualDisk
from sim.server import Presentation, Server
from tokenferry.credentials import OAuthToken
from tokenferry.errors import TokenferryError
from tokenferry.oauth import HttpOutcome, NotSent, OAuthEndpoints, TokenResponse, TokenResponseLost
from tokenferry.refresh import FileJournal, FlowContext, Journal, RefreshAttempt, RefreshRequest, Result
from tokenferry.refresh import _effects as effects
from tokenferry.refresh._flow import refresh_flow
from tokenferry.sealing import KeyPlace, Marker, SealKey
from tokenferry.secret import Secret
from tokenferry.settings import Home, RefreshSettings
from tokenferry.stores import Account, Document, FileStore, ProcessIdentity, Seal, Store

NAME = "alice"
KEY = SealKey.parse("tfs_" + "5a" * 32) or SealKey.new()
BOOT = "boot"
_URL = "https://auth.invalid/token"
_SECOND_PRESENTATION = 120.0


@dataclass
class Weather:
    """How bad the world is: probabilities and sizes, drawn once per schedule."""

    lose_answer: float = 0.0
    lose_request: float = 0.0
    not_sent: float = 0.0
    odd_refresh: float = 0.0
    server_error: float = 0.0
    kill: float = 0.0
    power_cut: float = 0.0
    suspend: float = 0.0
    full_disk: float = 0.0
    clock_jump: float = 0.0
    foreign: float = 0.0
    slow: float = 0.0
    grace: float = 0.0


@dataclass
class Sending:
    """One attempt. `settled`: the client knows what became of it; `durable`: even after a power cut.

    `is_noted`: the disk says that it may have been sent. `is_odd`: its answer's refresh token can't be read.
    """

    id: str
    token: str
    at: float
    is_noted: bool = False
    is_sent: bool = False
    is_odd: bool = False
    sent_at: float = 0.0
    """By the clock that nobody sets."""
    presentation: Presentation | None = None
    settled: bool = False
    durable: bool = False


@dataclass(eq=False)
class Process:
    """One process with one wish. It lives while `flow` does."""

    identity: ProcessIdentity
    job: RefreshRequest
    flow: Generator[effects.Effect, Any, Result] | None = None
    waiting: effects.Acquire | None = None
    ended: Result | TokenferryError | None = None
    delivered: Document | None = None
    wants_to_end: bool = False
    killed: bool = False
    sending: Sending | None = None
    has_answer: bool = False
    asleep_until: float = 0.0
    """The suspended do nothing before that, and neither do their threads."""


FlowFactory = Callable[[RefreshRequest, FlowContext], Generator[effects.Effect, Any, Result]]


class VirtualSeal(Seal):
    """Nobody else writes the marker of a virtual home, so its lock is none."""

    @override
    def held(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


class Machine:
    """The simulation. `log` says what happened, for the reader of a failure.

    Every third home is sealed: then no token may ever be seen on its disk.
    """

    def __init__(self, seed: int, weather: Weather, flow: FlowFactory = refresh_flow) -> None:
        self.rng = random.Random(seed)
        self.drawn = weather
        """The weather of the schedule; `weather` is the present one."""
        self.weather = weather
        self.make_flow = flow
        self.disk = VirtualDisk(self.rng)
        home = Home(Path("/virtual"))
        self.disk.now = self.now
        self.seal = VirtualSeal(home, disk=self.disk, keys=[KEY])
        self.is_sealed = seed % 3 == 0
        if self.is_sealed:
            self.seal.mark(Marker(((KEY.id, KeyPlace()),)))
        self.journal: Journal = FileJournal(home.journal, disk=self.disk, seal=self.seal)
        self.attempt_path = home.journal / f"{NAME}.attempt"
        self.server = Server(grace=weather.grace)
        self.time = 1_800_000_000.0
        self.skew = 0.0
        self.queue: list[tuple[float, int, Callable[[], None]]] = []
        self.sequence = 0
        self.processes: list[Process] = []
        self.holder: Process | None = None
        self.log: list[str] = []
        self.kills = 0
        self.crash_at: int | None = None
        self.crash_with_power = False
        self.sent: list[Sending] = []
        self.violations: list[str] = []
        self.settings = RefreshSettings()
        self.store = self._open_store()
        self._seed_account()

    # -- time

    def now(self) -> float:
        """The wall clock, which may jump."""
        return self.time + self.skew

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        self.sequence += 1
        heapq.heappush(self.queue, (self.time + seconds, self.sequence, action))

    def run(self, until: float) -> None:
        """Run events until virtual time `until`, or until nothing is left to happen."""
        while self.queue and self.queue[0][0] <= until:
            at, _, action = heapq.heappop(self.queue)
            self.time = max(self.time, at)
            action()
        self.time = max(self.time, until)

    def note(self, text: str) -> None:
        self.log.append(f"{self.time - 1_800_000_000:9.3f} {text}")

    # -- the account

    def _open_store(self) -> Store:
        return FileStore(Home(Path("/virtual")), disk=self.disk, seal=self.seal)

    def _seed_account(self) -> None:
        tokens = self.server.login()
        secret, refresh = Secret(tokens["access_token"]), Secret(tokens["refresh_token"])
        credential = OAuthToken(secret, refresh, expires_at=int(self.time) - 10, lifetime=3600)
        self.store.swap(NAME, None, Document(Account(NAME, "virtual", "oauth"), credential, machine="m"))

    def document(self) -> Document:
        """The document as a bystander sees it, without disturbing the disk's countdown."""
        with self.disk.undisturbed():
            return self.store.read(NAME)

    # -- processes

    def spawn(self, job: RefreshRequest) -> Process:
        identity = ProcessIdentity(len(self.processes) + 100, str(len(self.processes)), BOOT)
        process = Process(identity, job)
        world = FlowContext(
            endpoints=lambda _: OAuthEndpoints(token_endpoint=_URL, client_id="c", reuse_grace=self.weather.grace),
            client_secret=lambda _: None,
            now=self.now,
            machine="m",
            process=identity,
            is_gone=self._is_gone,
            settings=self.settings,
            jitter=lambda: self.rng.uniform(0.5, 1.0),
            monotonic=lambda: self.time,
        )
        process.flow = self.make_flow(job, world)
        self.processes.append(process)
        self.note(f"p{identity.pid} starts {job}")
        self.later(self._latency(process), lambda: self._advance(process, None))
        return process

    def _is_gone(self, identity: ProcessIdentity) -> bool:
        return all(one.flow is None for one in self.processes if one.identity == identity)

    def _latency(self, process: Process) -> float:
        if self.rng.random() < self.weather.suspend:
            seconds = self.rng.choice((1.0, 20.0, 90.0, 400.0))
            process.asleep_until = self.time + seconds
            return seconds
        return self.rng.uniform(0.0, 0.01)

    def _advance(self, process: Process, answer: Any) -> None:
        """Feed the answer of its last effect to a process, and begin its next one."""
        if process.flow is None:
            return
        self._enter(process)
        if self.rng.random() < self.weather.kill * 0.05:
            self.kill(process)
            return
        if self.rng.random() < self.weather.kill:
            self.disk.die_at = self.disk.operations + self.rng.randint(1, 6)
        if self.rng.random() < self.weather.full_disk:
            self._fill_disk()
        if self.crash_at is not None:
            self.disk.die_at = self.crash_at
        try:
            effect = process.flow.throw(answer) if isinstance(answer, Exception) else process.flow.send(answer)
            self._perform(process, effect)
        except StopIteration as end:
            self._end(process, end.value)
        except TokenferryError as fault:
            self._end(process, fault)
        except Killed:
            self._died(process)
        finally:
            self.disk.die_at = None

    def _enter(self, process: Process) -> None:
        """What follows is done by this process, with what it has."""

    def _died(self, process: Process) -> None:
        """The process died in the middle of a disk operation."""
        self.crash_at, self.disk.is_dying = None, False
        self.kill(process)
        if self.crash_with_power:
            self.power_cut()

    def _end(self, process: Process, ended: Result | TokenferryError) -> None:
        process.ended, process.flow = ended, None
        self._settle(process, durable=True)  # whoever got an answer and ends by itself has seen to it
        outcome = (
            f"{type(ended).__name__}: {ended}" if isinstance(ended, TokenferryError) else f"granted={ended.granted}"
        )
        self.note(f"p{process.identity.pid} ends: {outcome}")
        if self.holder is process:
            self.violations.append(f"p{process.identity.pid} ended while holding the lock")
            self._release(process)

    def kill(self, process: Process) -> None:
        """Kill -9: the system takes back the lock, the page cache stays."""
        self.note(f"p{process.identity.pid} is killed")
        self.kills += 1
        process.flow, process.killed = None, True
        if process.sending is not None:
            process.sending.is_noted |= self._is_noted(process.sending)
        self._abandon(process)

    def power_cut(self) -> None:
        """Every process dies, and unsynced writes with them."""
        self.note("power cut")
        for process in self.processes:
            if process.flow is not None:
                self.kill(process)
        recorded = [one for one in self.sent if self._is_recorded(one)]
        self.disk.power_cut()
        is_ended = self.disk.first_byte(self.attempt_path) in {None, b"C", b"D"}
        for sending in self.sent:  # what was known may be known still, if the disk happened to keep it
            is_open_again = self._is_recorded(sending) and not is_ended
            sending.settled = sending.durable or (sending.settled and not is_open_again)
        for sending in self.sent:
            sending.is_noted = sending.is_sent or self._is_noted(sending)
        self._forget_unrecorded(recorded)

    def _is_noted(self, sending: Sending) -> bool:
        return self._is_recorded(sending) and self.disk.first_byte(self.attempt_path) not in {None, b"B"}

    def _fill_disk(self) -> None:
        self.note("the disk is full")
        self.disk.is_full = True
        self.later(self.rng.choice((0.5, 5.0, 120.0)), self.empty_disk)

    def empty_disk(self) -> None:
        self.disk.is_full = False

    # -- effects

    def _perform(self, process: Process, effect: effects.Effect) -> None:
        match effect:
            case effects.Acquire():
                self._acquire(process, effect)
            case effects.Send(request, timeout, attempt):
                self._connect(process, request.body, timeout, attempt)
            case effects.Sleep(seconds):
                self.later(seconds, lambda: self._advance(process, not process.wants_to_end))
            case _:
                try:
                    answer = self._perform_now(process, effect)
                except TokenferryError as fault:
                    answer = fault
                self.later(self._latency(process), lambda: self._advance(process, answer))

    def _perform_now(self, process: Process, effect: effects.Effect) -> Any:  # noqa: C901, PLR0911, PLR0912  # one branch each
        match effect:
            case effects.Release():
                return self._release(process)
            case effects.CheckReplaceable():
                return None
            case effects.StillHeld():
                return self._still_held(process)
            case effects.Read():
                return self.store.read(NAME)
            case effects.ReadAttempt():
                return self.journal.attempt(NAME)
            case effects.ReadFailure():
                return self.journal.failure(NAME)
            case effects.RecordAttempt(attempt, replaces):
                process.sending, process.has_answer = Sending(attempt.id, attempt.token, self.now()), False
                self.sent.append(process.sending)
                try:
                    return self.journal.begin(NAME, attempt, replaces=replaces)
                finally:
                    self._forget_unrecorded([process.sending])
            case effects.RecordAnswer(attempt, token):
                self.journal.answer(NAME, attempt, token)
                return self._settle(process, durable=True)
            case effects.Mark(attempt, "uncertain"):
                return self.journal.mark(NAME, attempt, "uncertain")
            case effects.Mark(attempt, state):
                return self._ending(process, lambda: self.journal.mark(NAME, attempt, state))
            case effects.Close(attempt):
                return self._ending(process, lambda: self.journal.close(NAME, attempt))
            case effects.RecordFailure(failure):
                try:
                    self.journal.record_failure(NAME, failure)
                except TokenferryError:
                    return False
                return True
            case effects.Publish(expected, document, presented):
                return self._publish(process, expected, document, presented)
            case effects.Deliver(document):
                process.delivered = document
                process.wants_to_end = self.rng.random() < 0.3
                return None
        raise AssertionError(effect)

    def _forget_unrecorded(self, sent: list[Sending]) -> None:
        """An attempt that was never sent, and isn't on disk, never was."""
        for sending in sent:
            if not sending.is_sent and not self._is_recorded(sending):
                sending.settled = sending.durable = True

    def _is_recorded(self, sending: Sending) -> bool:
        return self.disk.contains(self.attempt_path, sending.id.encode())

    def _ending(self, process: Process, action: Callable[[], None]) -> None:
        """End an attempt; a process that dies right after the write that counts has ended it as well."""
        try:
            action()
            self._settle(process, durable=True)
        finally:
            if self.disk.first_byte(self.attempt_path) in {None, b"C", b"D"}:
                self._settle(process)

    def _settle(self, process: Process, *, durable: bool = False) -> None:
        """What the process was answered is now known durably."""
        if process.sending is not None and process.has_answer:
            process.sending.settled = True
            process.sending.durable |= durable

    def _publish(self, process: Process, expected: int, document: Document, presented: str | None) -> None:
        before = self.document().credential
        if self.holder is not process:
            self.violations.append(f"p{process.identity.pid} publishes without holding the lock")
        self.store.swap(NAME, expected, document)
        old, new = before, document.credential
        assert isinstance(old, OAuthToken)
        assert isinstance(new, OAuthToken)
        if old.refresh and old.refresh != new.refresh and self.server.is_live(old.refresh.reveal()):
            self.violations.append(f"p{process.identity.pid} overwrites the live chain {old.refresh.reveal()}")
        self.note(f"p{process.identity.pid} publishes {new.refresh and new.refresh.reveal()}")
        self._check_sealed(new)

    def _check_sealed(self, token: OAuthToken) -> None:
        """In a sealed home no file holds a token in clear, whoever wrote it."""
        values = [secret.reveal().encode() for secret in (token.secret, token.refresh) if secret is not None]
        if self.is_sealed and any(self.disk.holds(value) for value in values):
            self.violations.append("a token lies in clear in a sealed home")

    def _acquire(self, process: Process, effect: effects.Acquire) -> None:
        if self.holder is None:
            self.holder = process
            self._locked(process)
            return
        process.waiting = effect
        self.later(effect.timeout, lambda: self._give_up(process, effect))

    def _give_up(self, process: Process, effect: effects.Acquire) -> None:
        if process.waiting is effect:
            process.waiting = None
            self._advance(process, "somebody")

    def _unlock(self) -> None:
        self.holder = None
        waiting = [one for one in self.processes if one.waiting is not None and one.flow is not None]
        if waiting:
            process = self.rng.choice(waiting)
            process.waiting, self.holder = None, process
            self._locked(process)

    def _locked(self, process: Process) -> None:
        """The process has the lock."""
        self.later(self._latency(process), lambda: self._advance(process, None))

    def _still_held(self, process: Process) -> bool:
        return self.holder is process

    def _release(self, process: Process) -> None:
        if self.holder is process:
            self._unlock()

    def _abandon(self, process: Process) -> None:
        """The process was killed: the system takes its lock back."""
        if self.holder is process:
            self._unlock()

    def _check_sending(self, process: Process, sending: Sending, timeout: float) -> None:
        """What has to hold when a refresh token is presented."""
        assert timeout > 0
        self._check_retry(process, sending)

    def _check_retry(self, process: Process, sending: Sending) -> None:
        """A token whose handling is unknown is shown again only in its grace, or when nothing is left to lose."""
        token = self.document().credential
        assert isinstance(token, OAuthToken)
        is_replaced = token.refresh is None or token.refresh.sha256 != sending.token  # by a login since it was decided
        unsettled = [one for one in self.sent if one.token == sending.token and one is not sending and one.is_sent]
        earlier = [one for one in unsettled if not one.settled or one.is_odd]
        is_used_up = token.expires_at is not None and token.expires_at <= self.now()
        is_late = self.drawn.suspend or self.drawn.clock_jump  # then it was right when it was decided
        if not earlier or is_replaced or is_late:
            return
        if self.weather.grace > 0 and self.now() - earlier[0].at <= self.weather.grace:
            return
        if not is_used_up and token.secret.sha256 != process.job.refused:
            self.violations.append(f"p{process.identity.pid} presents an uncertain token while its access token lives")
        waited = self.time - next((one.sent_at for one in earlier if not one.is_odd), 0.0)
        if waited < _SECOND_PRESENTATION - 0.01:
            self.violations.append(f"p{process.identity.pid} presents an uncertain token again after {waited:.1f} s")

    # -- the network

    def _connect(self, process: Process, body: bytes, timeout: float, attempt: RefreshAttempt | None) -> None:
        """Nothing has left yet: it takes its time, fails, is killed, and notes what may leave from now on."""
        not_sent = self.rng.random() < self.weather.not_sent
        dies = self.rng.random() < self.weather.kill

        def connected() -> None:
            if process.flow is None:
                return
            self._enter(process)
            if dies and self.rng.random() < 0.5:
                self.kill(process)
                return
            if dies:
                self.disk.die_at = self.disk.operations + self.rng.randint(1, 4)
            if self.crash_at is not None:
                self.disk.die_at = self.crash_at
            try:
                refused = "no route" if not_sent else self._note_sending(attempt)
            except Killed:
                self._died(process)
                return
            finally:
                self.disk.die_at = None
            if refused is None:
                self._send(process, body, timeout)
                return
            process.has_answer = True
            self._advance(process, NotSent(refused))

        self.later(self.rng.uniform(0.0, 0.1), connected)

    def _note_sending(self, attempt: RefreshAttempt | None) -> str | None:
        """Why no byte may leave, if none may."""
        try:
            if attempt is not None:
                self.journal.sending(NAME, attempt, self.now())
        except TokenferryError as fault:
            return str(fault)
        return None

    def _send(self, process: Process, body: bytes, timeout: float) -> None:
        draw = self.rng.random
        is_done: list[bool] = []
        sending = process.sending
        assert sending is not None
        sending.is_sent = sending.is_noted = True
        sending.at, sending.sent_at = self.now(), self.time
        self._check_sending(process, sending, timeout)

        def answer(transmission: HttpOutcome) -> None:
            if process.asleep_until > self.time:
                self.later(process.asleep_until - self.time, lambda: answer(transmission))
            elif not is_done:
                is_done.append(True)
                process.has_answer = isinstance(transmission, TokenResponse)
                self._advance(process, transmission)

        if draw() < self.weather.lose_request:
            self.note(f"the request of p{process.identity.pid} is lost")
            self.later(timeout, lambda: answer(TokenResponseLost("no answer")))
            return
        slow = draw() < self.weather.slow
        there = self.rng.uniform(0, timeout * 0.9) if slow else self.rng.uniform(0.01, 0.2)
        back = self.rng.uniform(0, timeout) if slow else self.rng.uniform(0.01, 0.2)
        loses_answer = draw() < self.weather.lose_answer
        fail = self.rng.choice((429, 500, 503)) if draw() < self.weather.server_error else None
        is_odd = draw() < self.weather.odd_refresh

        def arrive() -> None:
            reply = self.server.handle(body, self.time, fail=fail, odd=is_odd)
            sending.is_odd = is_odd and reply.status == 200
            sending.presentation = self.server.presentations[-1]
            self.note(f"the server answers p{process.identity.pid} with {reply.status}")
            if not loses_answer:
                self.later(back, lambda: answer(reply))

        self.later(there, arrive)
        self.later(timeout, lambda: answer(TokenResponseLost("timed out")))


def log_in_anew(machine: Machine, *, heeds_lock: bool) -> None:
    """Somebody puts a new chain into the document, by generation; a foreign program doesn't heed the lock."""
    if machine.disk.is_full or (heeds_lock and machine.holder is not None):
        return
    document = machine.store.read(NAME)
    tokens = machine.server.login()
    expires_at = int(machine.now()) + machine.server.lifetime
    credential = OAuthToken(Secret(tokens["access_token"]), Secret(tokens["refresh_token"]), expires_at)
    machine.store.swap(NAME, document.generation, replace(document, credential=credential))
    machine.note(f"a new login: {tokens['refresh_token']}")
