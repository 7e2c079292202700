"""One schedule on a machine where Claude Code runs too, and what must hold at its end."""

import random
from collections.abc import Callable

from sim.neighbours import Lock, Neighbours
from sim.schedule import check_presentations, draw_weather
from sim.world import NAME, FlowFactory, Process, Weather
from tokenferry.credentials import OAuthToken
from tokenferry.errors import NeedsLogin
from tokenferry.refresh import RefreshRequest, Result
from tokenferry.refresh._flow import refresh_flow

_HOUR = 3600.0
_HORIZON = 6 * _HOUR
_WAIT = 54.0


def run_beside(seed: int, flow: FlowFactory = refresh_flow, make_lock: Callable[..., Lock] = Lock) -> Neighbours:
    """Run the schedule of a seed; its machine's `violations` say what broke."""
    rng = random.Random(seed)
    weather = draw_weather(rng)
    weather.grace = 0.0
    machine = Neighbours(seed, weather, flow, make_lock)
    for _ in range(rng.randint(1, 4)):
        machine.later(_start(rng), lambda: _spawn(machine, rng))
    for _ in range(rng.randint(1, 4)):
        machine.later(_start(rng), lambda: _claude(machine, rng))
    _mishaps(machine, rng)
    machine.run(machine.time + _HORIZON)
    if machine.holder is None and not any(process.flow for process in machine.processes):
        check(machine, heal_and_try(machine))
    else:
        machine.violations.append("a process of ours never ends")
    return machine


def _start(rng: random.Random) -> float:
    return rng.choice((0.0, rng.uniform(0, 0.3), rng.uniform(0, 40), rng.uniform(0, 2 * _HOUR)))


def _spawn(machine: Neighbours, rng: random.Random) -> None:
    kind, refused = rng.random(), machine.secret()
    if kind < 0.1:
        machine.spawn(RefreshRequest(NAME, wait=_WAIT, forced=True))
    elif kind < 0.3 and refused is not None:
        machine.spawn(RefreshRequest(NAME, wait=_WAIT, refused=refused.sha256))
    else:
        machine.spawn(RefreshRequest(NAME, wait=_WAIT))


def _claude(machine: Neighbours, rng: random.Random) -> None:
    refused = machine.secret() if rng.random() < 0.2 else None
    machine.start_claude(is_old=rng.random() < 0.3, refused=refused.reveal() if refused else None)


def _mishaps(machine: Neighbours, rng: random.Random) -> None:
    weather = machine.weather
    if rng.random() < weather.power_cut:
        machine.later(rng.choice((rng.uniform(0, 0.5), rng.uniform(0, 60))), machine.power_cut)
    if rng.random() < weather.clock_jump:
        when = rng.choice((rng.uniform(0, 10), rng.uniform(0, 60)))
        machine.later(when, lambda: machine.set_clock(rng.choice((-4, 4)) * _HOUR))
    if rng.random() < weather.foreign:
        machine.later(rng.choice((rng.uniform(0, 0.5), 30.0)), machine.log_in_anew)
    if rng.random() < 0.2:
        machine.later(rng.uniform(0, 60), machine.server.revoke_access)


def heal_and_try(machine: Neighbours) -> Process:
    """Fair weather, and time enough for every access token to expire. What was left behind is waited for twice."""
    machine.weather = Weather()
    machine.empty_disk()
    machine.skew = max(machine.skew, 0.0)
    machine.time += 12 * _HOUR
    for _ in range(2):
        process = machine.spawn(RefreshRequest(NAME, wait=_WAIT))
        machine.run(machine.time + 300)
    return process


def check(machine: Neighbours, last: Process) -> None:
    say = machine.violations.append
    for process in machine.processes:
        if process.flow is not None:
            say(f"p{process.identity.pid} never ends")
    check_presentations(machine)
    held = [path.name for path in (machine.home.refresh_lock, machine.home.folder_lock) if machine.disk.exists(path)]
    if isinstance(last.ended, Result):
        token = last.ended.document.credential
        assert isinstance(token, OAuthToken)
        if not machine.server.accepts(token.secret.reveal()):
            say(f"p{last.identity.pid} was given {token.secret.reveal()}, which the server doesn't accept")
        if held:
            say(f"the locks {', '.join(held)} are never removed")
    elif not isinstance(last.ended, NeedsLogin):
        say(f"in fair weather p{last.identity.pid} ends with {last.ended!r}")
    elif not may_be_lost(machine):
        say(f"the login is lost although no answer was: {last.ended}")


def may_be_lost(machine: Neighbours) -> bool:
    """A login is lost where an answer was, whoever asked, or by a stated exception."""
    ours = [one.presentation for one in machine.sent if one.is_noted and (not one.settled or one.is_odd)]
    theirs = [one.presentation for claude in machine.claudes for one in claude.sent if not one.settled]
    lost = len(ours) > 1 or any(one and one.status in {200, 400} for one in (*ours, *theirs))
    between_themselves = any(claude.is_robbed for claude in machine.claudes)
    return lost or between_themselves or bool(machine.excuses) or machine.left_unpublished
