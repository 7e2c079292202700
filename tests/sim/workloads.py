"""A workload's account on the virtual machine: its identity token is exchanged, and nothing is single-use."""

import inspect
import json
import random
import types
from typing import Any, Final

from typing_extensions import override

from sim.schedule import draw_weather
from sim.world import NAME, FlowFactory, Machine, Process, Weather
from tokenferry.credentials import FederatedToken, Federation
from tokenferry.oauth import HttpOutcome, NotSent, OAuthEndpoints, TokenResponse, TokenResponseLost
from tokenferry.refresh import FlowContext, RefreshAttempt, RefreshRequest, Result, _exchange_flow, _flow
from tokenferry.refresh import _effects as effects
from tokenferry.refresh._flow import refresh_flow
from tokenferry.secret import Secret
from tokenferry.stores import Account, Document, ProcessIdentity

_HOUR: Final = 3600.0
_LIFETIME: Final = 300

MUTANTS: Final[dict[str, tuple[str, ...]]] = {
    "takes no lock": ("    holder: str | None = yield effects.Acquire(job.wait)\n", "    holder: str | None = None\n"),
    "does not read again under the lock": (
        "result = yield from _under_lock(job, context, started)",
        "result = yield from _under_lock(job, context, started, document)",
        "started: float) -> Flow[Result]:\n    document: Document = yield effects.Read()\n",
        "started: float, document: Document) -> Flow[Result]:\n",
    ),
    "ignores what others found out": (
        "    check_backoff(failure, document, presented.sha256, context, adopt_from=started, forced=job.forced)\n",
        "    pass\n",
        "        check_backoff((yield effects.ReadFailure()), document, "
        "_presented(document, context), context, adopt_from=None)\n",
        "        pass\n",
    ),
    "tells nobody that it failed": ("    yield effects.RecordFailure(failure)\n", ""),
    "releases before it publishes": (
        "            yield effects.Publish(document.generation, granted)\n",
        "            yield effects.Release()\n            yield effects.Publish(document.generation, granted)\n",
    ),
    "overwrites what another program wrote": (
        "            if document.credential.secret != replaced:  #",
        "            if False:  #",
    ),
    "gives up the lock to nobody": ("    yield effects.Release()\n    return result\n", "    return result\n"),
    "waits for a full disk for ever": ("if is_used_up or not (yield", "if not (yield"),
}


def mutated_exchange(name: str) -> FlowFactory:
    """Give `refresh_flow` with an exchange, where one of their two sources had each of these edits."""
    sources = {module: inspect.getsource(module) for module in (_exchange_flow, _flow)}
    edits = MUTANTS[name]
    for before, after in zip(edits[::2], edits[1::2], strict=True):
        found = [module for module, source in sources.items() if source.count(before) == 1]
        assert found, f"the mutant no longer applies: {name}"
        sources[found[0]] = sources[found[0]].replace(before, after)
    exchange, flow = types.ModuleType(_exchange_flow.__name__), types.ModuleType(_flow.__name__)
    exec(compile(sources[_exchange_flow], f"<{name}>", "exec"), exchange.__dict__)
    exec(compile(sources[_flow], f"<{name}>", "exec"), flow.__dict__)
    flow.__dict__["exchange"] = exchange.__dict__["exchange"]
    factory: FlowFactory = flow.refresh_flow
    return factory


class Workload(Machine):
    """One account, and processes that want its token. Nothing holds of who was suspended, or whose clock was set."""

    def __init__(self, seed: int, weather: Weather, flow: FlowFactory = refresh_flow) -> None:
        self.identity = Secret("identity-1")
        self.exchanges = 0
        self.issued: set[str] = set()
        self.in_flight: dict[Process, bool] = {}
        self.base: dict[Process, str] = {}
        """The sha256 of the token that a process saw when it sent its exchange."""
        self.failure: tuple[Process | None, float] = None, 0.0
        self.put_at = 0.0
        self.is_patient = seed % 2 == 0
        """Whether its processes outlast a full disk."""
        super().__init__(seed, weather, flow)

    @override
    def _seed_account(self) -> None:
        document = Document(Account(NAME, "virtual", "federated"), self._token(int(self.time) - 10), machine="m")
        self.store.swap(NAME, None, document)

    def _token(self, expires_at: int) -> FederatedToken:
        self.exchanges += 1
        name = f"acc-{self.exchanges}"
        self.issued.add(name)
        return FederatedToken(
            Secret(name), expires_at=expires_at, lifetime=_LIFETIME, federation=Federation("/identity")
        )

    @override
    def spawn(self, job: RefreshRequest) -> Process:
        process = Process(ProcessIdentity(len(self.processes) + 100, str(len(self.processes)), "boot"), job)
        context = FlowContext(
            endpoints=lambda _: OAuthEndpoints(token_endpoint="https://auth.invalid/token"),
            client_secret=lambda _: None,
            now=self.now,
            machine="m",
            process=process.identity,
            is_gone=self._is_gone,
            identity=lambda _: self.identity,
            settings=self.settings,
            jitter=lambda: self.rng.uniform(0.5, 1.0),
        )
        process.flow = self.make_flow(job, context)
        self.processes.append(process)
        self.note(f"p{process.identity.pid} starts {job}")
        self.later(self._latency(process), lambda: self._advance(process, None))
        return process

    @override
    def _perform_now(self, process: Process, effect: effects.Effect) -> Any:
        if isinstance(effect, effects.RecordAttempt | effects.RecordAnswer | effects.Mark):
            self.violations.append(f"p{process.identity.pid} journals {effect}")
        if isinstance(effect, effects.Deliver) and self.is_patient:
            process.delivered = effect.document
            return None
        if isinstance(effect, effects.Publish):
            before = self.document().credential.secret.sha256
            until = effect.document.credential.expires_at
            if until is not None and until < self.now() and not self._may_be_late():
                self.violations.append(f"p{process.identity.pid} publishes a token that is used up")
            answer = super()._perform_now(process, effect)
            if before != self.base.get(process):
                self.violations.append(f"p{process.identity.pid} writes over a token that it didn't replace")
            return answer
        return super()._perform_now(process, effect)

    @override
    def kill(self, process: Process) -> None:
        self.in_flight.pop(process, None)
        super().kill(process)

    def _may_be_late(self) -> bool:
        return bool(self.drawn.suspend or self.drawn.clock_jump)

    @override
    def _connect(self, process: Process, body: bytes, timeout: float, attempt: RefreshAttempt | None) -> None:
        assert attempt is None
        assert json.loads(body)["assertion"] == self.identity.reveal() or self._may_be_late()
        pid, say = process.identity.pid, self.violations.append
        if others := [one.identity.pid for one in self.in_flight if one is not process]:
            say(f"p{pid} exchanges while p{others[0]} does")
        document = self.document()
        self.base[process] = document.credential.secret.sha256
        is_new = self.time - self.put_at < 1.0  # by who heeds no lock
        if process.job.is_satisfied_by(document, self.now()) and not is_new and not self._may_be_late():
            say(f"p{pid} exchanges although there is a token that will do")
        with self.disk.undisturbed():
            failure = self.journal.failure(NAME)
        is_told = failure is not None and failure.token == self.identity.sha256 and failure.until > self.now()
        if is_told and not process.job.forced and not self._may_be_late():
            say(f"p{pid} exchanges during a back-off")
        failed, at = self.failure
        is_told = failed is not None and not failed.killed and self.time - at < 0.5 and not self.drawn.full_disk
        if is_told and failed is not process and not process.job.forced:
            say(f"p{pid} exchanges although p{failed.identity.pid if failed else 0} has just failed")
        self.in_flight[process] = True
        draw = self.rng.random
        if draw() < self.weather.not_sent:
            self.later(0.01, lambda: self._answer(process, NotSent("no route")))
        elif draw() < self.weather.lose_request or draw() < self.weather.lose_answer:
            self.later(timeout, lambda: self._answer(process, TokenResponseLost("no answer")))
        else:
            self.later(self.rng.uniform(0.01, 5 if draw() < self.weather.slow else 0.2), lambda: self._reply(process))

    def _reply(self, process: Process) -> None:
        if self.rng.random() < self.weather.server_error:
            status, fields = self.rng.choice(((503, {}), (429, {}), (400, {"error": "invalid_grant"})))
        else:
            token = self._token(0)
            status, fields = 200, {"access_token": token.secret.reveal(), "expires_in": str(_LIFETIME)}
        self._answer(process, TokenResponse(status, {}, json.dumps(fields).encode()))

    def _answer(self, process: Process, transmission: HttpOutcome) -> None:
        if self.in_flight.pop(process, False):
            if not isinstance(transmission, TokenResponse) or transmission.status != 200:
                self.failure = process, self.time
            self._advance(process, transmission)

    def put_another(self) -> None:
        """Somebody adds the account anew, heeding no lock."""
        if self.disk.is_full:
            return
        document = self.store.read(NAME)
        token = self._token(int(self.now()) + _LIFETIME)
        self.store.swap(NAME, document.generation, Document(document.account, token, machine="m"))
        self.put_at = self.time
        self.note(f"another token: {token.secret}")


def run_workload(seed: int, flow: FlowFactory = refresh_flow) -> Workload:
    """Run the schedule of a seed; its machine's `violations` say what broke."""
    rng = random.Random(seed)
    machine = Workload(seed, draw_weather(rng), flow)
    for _ in range(rng.randint(2, 7)):
        machine.later(rng.choice((0.0, rng.uniform(0, 0.3), rng.uniform(0, 40))), lambda: _spawn(machine, rng))
    if rng.random() < machine.weather.power_cut:
        machine.later(rng.uniform(0, 1), machine.power_cut)
    if rng.random() < machine.weather.clock_jump:
        machine.later(rng.uniform(0, 60), lambda: setattr(machine, "skew", rng.choice((-4, 4)) * _HOUR))
    if rng.random() < machine.weather.foreign:
        machine.later(rng.uniform(0, 0.5), machine.put_another)
    if machine.weather.full_disk and rng.random() < 0.3:
        machine.weather.full_disk = 1.0
        machine.later(1.5 * _LIFETIME, lambda: setattr(machine.weather, "full_disk", 0.0))
    machine.run(machine.time + 6 * _HOUR)
    _check(machine)
    return machine


def _spawn(machine: Workload, rng: random.Random) -> None:
    kind = rng.random()
    if kind < 0.1:
        machine.spawn(RefreshRequest(NAME, forced=True))
    elif kind < 0.2:
        machine.spawn(RefreshRequest(NAME, refused=machine.document().credential.secret.sha256, needs=30.0))
    else:
        machine.spawn(RefreshRequest(NAME, needs=30.0, wait=rng.choice((0.0, 60.0))))


def _check(machine: Workload) -> None:
    say = machine.violations.append
    for process in machine.processes:
        if process.flow is not None:
            say(f"p{process.identity.pid} never ends")
    if machine.holder is not None:
        say("the lock is never released")
        return
    machine.weather, machine.disk.is_full, machine.skew = Weather(), False, max(machine.skew, 0.0)
    machine.time += 12 * _HOUR
    last = machine.spawn(RefreshRequest(NAME, needs=30.0))
    machine.run(machine.time + _HOUR)
    ended = last.ended
    if not isinstance(ended, Result):
        say(f"in fair weather it ends with {ended!r}")
    elif ended.document.credential.secret.reveal() not in machine.issued:
        say("it ends with a token that nobody issued")
