"""One schedule: a seed becomes weather, processes and mishaps; the invariants are checked at its end."""

import random
from collections import defaultdict
from collections.abc import Callable

from sim.world import NAME, FlowFactory, Machine, Process, Sending, Weather, log_in_anew
from tokenferry.credentials import OAuthToken
from tokenferry.errors import NeedsLogin, TokenferryError
from tokenferry.refresh import RefreshRequest, Result
from tokenferry.refresh._flow import refresh_flow

_HOUR = 3600.0
_HORIZON = 6 * _HOUR
_UNCERTAIN_AT_MOST = 1


def draw_weather(rng: random.Random) -> Weather:
    """Mostly a few troubles at a time: a schedule where everything fails shows little."""

    def maybe(probability: float, strength: float) -> float:
        return strength if rng.random() < probability else 0.0

    return Weather(
        lose_answer=maybe(0.3, 0.3),
        lose_request=maybe(0.2, 0.2),
        not_sent=maybe(0.2, 0.3),
        odd_refresh=maybe(0.1, 0.3),
        server_error=maybe(0.3, 0.4),
        kill=maybe(0.4, 0.15),
        power_cut=maybe(0.3, 0.5),
        suspend=maybe(0.3, 0.05),
        full_disk=maybe(0.3, 0.1),
        clock_jump=maybe(0.3, 0.5),
        foreign=maybe(0.3, 0.5),
        slow=maybe(0.3, 0.5),
        grace=maybe(0.25, 30.0),
    )


def run_schedule(seed: int, flow: FlowFactory = refresh_flow) -> Machine:
    """Run the schedule of a seed; its machine's `violations` say what broke."""
    rng = random.Random(seed)
    machine = Machine(seed, draw_weather(rng), flow)
    for _ in range(rng.randint(2, 7)):
        start = rng.choice((0.0, rng.uniform(0, 0.3), rng.uniform(0, 40), rng.uniform(0, 2 * _HOUR)))
        machine.later(start, lambda: _spawn(machine, rng))
    _mishaps(machine, rng)
    machine.run(machine.time + _HORIZON)
    if machine.holder is None and not any(process.flow for process in machine.processes):
        heal_and_try(machine)
    check(machine)
    return machine


def _spawn(machine: Machine, rng: random.Random) -> None:
    token = machine.document().credential
    kind = rng.random()
    if kind < 0.1:
        machine.spawn(RefreshRequest(NAME, forced=True))
    elif kind < 0.3:
        machine.spawn(RefreshRequest(NAME, refused=token.secret.sha256, needs=30.0))
    elif kind < 0.4:
        machine.spawn(RefreshRequest(NAME, needs=300.0, wait=0.0))
    else:
        machine.spawn(RefreshRequest(NAME, needs=30.0))


def _mishaps(machine: Machine, rng: random.Random) -> None:
    weather = machine.weather
    if rng.random() < weather.power_cut:
        machine.later(rng.choice((rng.uniform(0, 0.5), rng.uniform(0, 60))), machine.power_cut)
    if rng.random() < weather.clock_jump:
        machine.later(rng.uniform(0, 60), lambda: setattr(machine, "skew", rng.choice((-4, 4)) * _HOUR))
    if rng.random() < weather.foreign:
        heeds_lock = rng.random() < 0.5
        machine.later(rng.choice((rng.uniform(0, 0.5), 30.0)), lambda: log_in_anew(machine, heeds_lock=heeds_lock))
    if rng.random() < 0.2:
        machine.later(rng.uniform(0, 60), machine.server.revoke_access)


def heal_and_try(machine: Machine) -> Process:
    """Fair weather, and time enough for every access token to expire: the login must still be good, or rightly lost."""
    machine.weather = Weather(grace=machine.drawn.grace)
    machine.disk.is_full = False
    machine.skew = max(machine.skew, 0.0)
    machine.time += 12 * _HOUR
    process = machine.spawn(RefreshRequest(NAME, needs=30.0))
    machine.run(machine.time + _HOUR)
    return process


def check(machine: Machine) -> None:
    say = machine.violations.append
    for process in machine.processes:
        if process.flow is not None:
            say(f"p{process.identity.pid} never ends")
    if machine.holder is not None:
        say("the lock is never released")
    check_presentations(machine)
    _check_login(machine, say)


def _by_token(machine: Machine) -> dict[str, list[Sending]]:
    found: dict[str, list[Sending]] = defaultdict(list)
    for sending in machine.sent:
        if sending.presentation is not None:
            found[sending.presentation.token].append(sending)
    return found


def check_presentations(machine: Machine) -> None:
    """No refresh token twice, unless the earlier attempt was closed, or uncertain and its one retry unused."""
    for token, sent in _by_token(machine).items():
        _check_presentations(token, sent, machine.violations.append)


def _check_presentations(token: str, sent: list[Sending], say: Callable[[str], None]) -> None:
    uncertain = 0
    for sending in sent[:-1]:
        presentation = sending.presentation
        assert presentation is not None
        if not sending.settled or sending.is_odd:
            uncertain += 1
        elif presentation.rotated or presentation.status == 400:  # invalid_grant
            say(f"{token} is presented again after its handling was known ({presentation.status})")
    if uncertain > _UNCERTAIN_AT_MOST:
        say(f"{token} is presented {uncertain + 1} times although its handling was uncertain")


def _check_login(machine: Machine, say: Callable[[str], None]) -> None:
    """A login is lost only where an answer was lost (or its receiver killed) and no grace made up for that."""
    last = machine.processes[-1]
    ended: Result | TokenferryError | None = last.ended
    if isinstance(ended, Result):
        token = ended.document.credential
        assert isinstance(token, OAuthToken)
        if not machine.server.accepts(token.secret.reveal()):
            say(f"p{last.identity.pid} was given {token.secret}, which the server doesn't accept")
        return
    unsettled = [one for one in machine.sent if one.is_noted and (not one.settled or one.is_odd)]
    lost = len(unsettled) > 1 or any(one.presentation and one.presentation.status in {200, 400} for one in unsettled)
    weather = machine.drawn
    hindrances = ("slow", "full_disk", "server_error", "not_sent", "clock_jump", "suspend")
    hinders_retry = any(getattr(weather, name) for name in hindrances) or any(one.is_odd for one in unsettled)
    grace_was_enough = weather.grace > 0 and len(unsettled) == 1 and not machine.kills and not hinders_retry
    if not isinstance(ended, NeedsLogin):
        say(f"in fair weather p{last.identity.pid} ends with {ended!r}")
    elif not lost or grace_was_enough:
        say(f"the login is lost although no answer was: {ended}")
