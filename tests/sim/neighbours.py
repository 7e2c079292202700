"""A machine on which Claude Code runs too: our real store and its real locks, on the virtual disk, under its login."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from typing_extensions import override

from sim.disk import Killed
from sim.foreign import ClaudeCode
from sim.world import BOOT, NAME, FlowFactory, Machine, Process, Sending, Weather
from tokenferry.claude_code import ClaudeCodeHome, ClaudeCodeLock, ClaudeCodeStore, LockTiming, WriteLock
from tokenferry.errors import TokenferryError
from tokenferry.refresh import Result
from tokenferry.refresh._flow import refresh_flow
from tokenferry.secret import Secret
from tokenferry.settings import Home
from tokenferry.stores import Account, Document, Store

FOREIGN = {"mcpOAuth": {"server": {"token": "kept"}}, "unknownThere": [1, None]}
UNKNOWN = {"unknownHere": {"kept": True}}
_ACCOUNT = Account(NAME, "virtual", "oauth", owner="claude-code", store="claude-code")
_TIMING = LockTiming(pause=1.0, write=0.0)
_LONGEST = 20.0
_MARGIN = 5.0  # seconds between two heartbeats, or looks


class Lock(ClaudeCodeLock):
    """Ours, whose heart is an event and not a thread."""

    def __init__(self, machine: "Neighbours", process: Process, home: ClaudeCodeHome, seen: Path) -> None:
        super().__init__(home, seen, timing=_TIMING, **machine.surroundings())
        self._machine = machine
        self._process = process

    @override
    def _start_heart(self) -> None:
        self._machine.later(_TIMING.heartbeat, self._tick)

    def _tick(self) -> None:
        machine, process = self._machine, self._process
        if process.flow is None or not self._taken:
            return
        if process.asleep_until > machine.time:
            machine.later(process.asleep_until - machine.time, self._tick)
            return
        machine.guarded(process, self.beat)
        machine.later(_TIMING.heartbeat, self._tick)

    @override
    def _owner_pid(self) -> int | None:
        """It leaves word, unless it is old."""
        holders = [one.number for one in self._machine.claudes if one.is_alive and one.holds and not one.is_old]
        return holders[0] if holders else None


class _BriefLock(WriteLock):
    """Held for one moment, so that it needs no heart."""

    @override
    def _start_heart(self) -> None:
        return


class _Store(ClaudeCodeStore):
    def __init__(self, machine: "Neighbours", locks: Path) -> None:
        super().__init__(_ACCOUNT, machine.home, locks, timing=_TIMING, disk=machine.disk)
        self._machine = machine

    @override
    def _write_lock(self) -> WriteLock:
        return _BriefLock(self.home, self._locks, timing=_TIMING, **self._machine.surroundings())


class Neighbours(Machine):
    """`excuses` are the stated exceptions of this run: who had them may lose the login, or present a token twice."""

    def __init__(
        self, seed: int, weather: Weather, flow: FlowFactory = refresh_flow, make_lock: Callable[..., Lock] = Lock
    ) -> None:
        self.home = ClaudeCodeHome(Path("/virtual/person/.claude"))
        self.claudes: list[ClaudeCode] = []
        self.excuses: set[str] = set()
        self.boots = 0
        self.logins = 0
        self._make_lock = make_lock
        self._locks: dict[Process, Lock] = {}
        self._looked: set[Process] = set()
        """Those who saw that their lock holds, and didn't release it since."""
        self._slept: dict[Process, float] = {}
        """How long they were suspended since."""
        super().__init__(seed, weather, flow)

    def surroundings(self) -> Any:
        return {
            "disk": self.disk,
            "now": self.now,
            "monotonic": lambda: self.time,
            "boot": lambda: f"{BOOT} {self.boots}",
            "sleep": _never,
        }

    # -- the account

    @override
    def _open_store(self) -> Store:
        return _Store(self, Home(Path("/virtual")).locks)

    @override
    def _seed_account(self) -> None:
        left = self.rng.choice((-10, -10, -10, 100, 400))
        self.write_login(self.server.login(), expires_at=self.time + left)

    def write_login(self, tokens: dict[str, str], expires_at: float) -> None:
        """Put a login there whole, without asking for any lock."""
        section = {"accessToken": tokens["access_token"], "refreshToken": tokens["refresh_token"]}
        document = FOREIGN | {"claudeAiOauth": section | {"expiresAt": round(expires_at * 1000)} | UNKNOWN}
        self.disk.put(self.home.credentials, json.dumps(document).encode())

    def section(self) -> dict[str, Any]:
        """The login as a bystander sees it."""
        found: dict[str, Any] = json.loads(self.disk.peek(self.home.credentials))["claudeAiOauth"]
        return found

    def secret(self) -> Secret | None:
        """The access token there."""
        text = self.section()["accessToken"]
        return Secret(text) if text else None

    @property
    def left_unpublished(self) -> bool:
        """Whether one of ours was killed, or ended for want of room, between answer and publication, for it to see."""
        if not self.claudes:
            return False
        ended = any(isinstance(one.ended, Result) and not one.ended.published for one in self.processes)
        return ended or any(one.killed and one.sending and one.sending.settled for one in self.processes)

    def log_in_anew(self) -> None:
        """`claude /login`, which asks for no lock."""
        if self.disk.is_full:
            return
        tokens = self.server.login()
        self.logins += 1
        self.write_login(tokens, self.now() + self.server.lifetime)
        self.note(f"a new login: {tokens['refresh_token']}")

    # -- Claude Code

    def start_claude(self, *, is_old: bool, refused: str | None = None) -> None:
        self.claudes.append(ClaudeCode(self, len(self.claudes) + 1, is_old, refused))
        self.claudes[-1].start()

    def strike(self, claude: ClaudeCode) -> None:
        """What befalls one of its processes before its next step."""
        if self.rng.random() < self.weather.kill * 0.1:
            claude.kill()
        elif self.rng.random() < self.weather.suspend:
            self.claude_sleeps(claude, self.rng.choice((1.0, 20.0, 90.0, 400.0)))

    def network(self, claude: ClaudeCode, body: bytes) -> tuple[float, float | None, int | None] | None:
        """Seconds there and back (None: the answer is lost) and the server's trouble; None for a lost request."""
        if self.rng.random() < self.weather.suspend * 3:
            self.claude_sleeps(claude, self.rng.choice((1.0, 20.0, 90.0)))
        if self.rng.random() < self.weather.lose_request:
            return None
        slow = self.rng.random() < self.weather.slow
        there, back = (self.rng.uniform(0.01, 7.0 if slow else 0.2) for _ in range(2))
        fail = self.rng.choice((429, 500, 503)) if self.rng.random() < self.weather.server_error else None
        return there, None if self.rng.random() < self.weather.lose_answer else back, fail

    def check_foreign_sending(self, claude: ClaudeCode, refresh: str) -> None:
        """While a grant of ours is under way, its locks keep Claude Code from presenting the same token."""
        for process in self.processes:
            sending = process.sending
            if process.flow is None or sending is None or process not in self._looked or not sending.is_sent:
                continue
            if sending.token == Secret(refresh).sha256 and not self._is_excused(process):
                self.violations.append(
                    f"claude {claude.number} presents {refresh} during p{process.identity.pid}'s grant"
                )

    def _is_excused(self, process: Process) -> bool:
        """Whether its locks may have been taken over: it was suspended too long since it looked, or a clock was set."""
        if self._slept.get(process, 0.0) > self._patience() - _MARGIN:
            self.excuses.add("a process of ours slept")
            return True
        return bool({"clock", "claude slept"} & self.excuses)

    def _is_excused_to_send(self, process: Process) -> bool:
        """Whether it may send beside another, which was suspended too long, or took its locks since it looked."""
        with self.disk.undisturbed():
            has_lost_them = process in self._looked and not self._locks[process].is_still_ours()
        return "claude slept" in self.excuses or (has_lost_them and self._is_excused(process))

    def taken_over(self, by: ClaudeCode, path: Path) -> None:
        """Claude Code took a lock for stale, which another of its kind may hold still."""
        self.note(f"claude {by.number} takes {path.name} over")
        for claude in self.claudes:
            claude.is_robbed |= claude.is_alive and claude.has_made(path)

    def set_clock(self, skew: float) -> None:
        self.skew = skew
        self.excuses.add("clock")
        self.note(f"the clock is {skew:+g} s")

    def claude_sleeps(self, claude: ClaudeCode, seconds: float) -> None:
        claude.sleep(seconds)
        if claude.holds and seconds > self._patience() - _MARGIN:
            self.excuses.add("claude slept")

    def _patience(self) -> float:
        """After so many seconds without a heartbeat somebody takes a lock over."""
        return 10.0 if any(one.is_old for one in self.claudes) else 60.0

    # -- suspension

    @override
    def _latency(self, process: Process) -> float:
        seconds = super()._latency(process)
        self._note_sleep(process, seconds)
        return seconds

    def _note_sleep(self, process: Process, seconds: float) -> None:
        if process in self._looked:
            self._slept[process] = max(self._slept.get(process, 0.0), seconds)

    # -- locks

    def guarded(self, process: Process, action: Callable[[], None]) -> None:
        """Do something that touches the disk in this process's name."""
        self.disk.die_at = self.crash_at
        try:
            action()
        except Killed:
            self._died(process)
        finally:
            self.disk.die_at = None

    @override
    def _locked(self, process: Process) -> None:
        """It has our own lock; now for theirs."""
        self._locks[process] = self._make_lock(self, process, self.home, Home(Path("/virtual")).locks)
        deadline = self.time + process.job.wait
        self.later(self._latency(process), lambda: self.guarded(process, lambda: self._take(process, deadline)))

    def _take(self, process: Process, deadline: float) -> None:
        if process.flow is None:
            return
        lock = self._locks[process]
        answer: object = None
        try:
            held = lock.take()
            if held is None:
                self.store._check_writable()  # type: ignore[attr-defined]  # as `AccountLock` does
            elif self.time < deadline:
                self.later(_TIMING.pause, lambda: self.guarded(process, lambda: self._take(process, deadline)))
                return
            else:
                answer = "Claude Code"
        except TokenferryError as fault:
            answer = fault
        if answer is not None:
            self._release(process)
        self.later(self._latency(process), lambda: self._advance(process, answer))

    @override
    def _still_held(self, process: Process) -> bool:
        lock = self._locks.get(process)
        if lock is None or not lock.is_still_ours():
            return False
        self._looked.add(process)
        return True

    @override
    def _release(self, process: Process) -> None:
        self._looked.discard(process)
        if (lock := self._locks.pop(process, None)) is not None:
            lock.release()
        super()._release(process)

    @override
    def _abandon(self, process: Process) -> None:
        self._looked.discard(process)
        if (lock := self._locks.pop(process, None)) is not None:
            lock.forget()
        super()._abandon(process)

    @override
    def power_cut(self) -> None:
        for claude in self.claudes:
            if claude.is_alive:
                claude.kill()
        self.boots += 1
        super().power_cut()

    # -- what has to hold

    @override
    def _check_sending(self, process: Process, sending: Sending, timeout: float) -> None:
        pid, say = process.identity.pid, self.violations.append
        if self.rng.random() < self.weather.suspend * 3:
            seconds = self.rng.choice((1.0, 20.0, 90.0))
            process.asleep_until = self.time + seconds
            self._note_sleep(process, seconds)
        if timeout > _LONGEST:
            say(f"p{pid} would wait {timeout:g} s for an answer")
        section = self.section()
        is_there = bool(section["refreshToken"]) and Secret(section["refreshToken"]).sha256 == sending.token
        excused = self._is_excused_to_send(process)
        if not is_there and not excused and not self.logins:
            say(f"p{pid} presents a token that isn't in the file")
        if is_there and "clock" not in self.excuses:
            is_used_up = section["expiresAt"] / 1000 <= self.now()
            if not is_used_up and Secret(section["accessToken"]).sha256 != process.job.refused:
                say(f"p{pid} refreshes although the access token lives")
        for claude in self.claudes:
            flight = claude.in_flight
            if not claude.is_alive or claude.is_robbed or flight is None or excused:
                continue
            if Secret(flight.token).sha256 == sending.token:
                say(f"p{pid} presents a token during the grant of claude {claude.number}")

    @override
    def _publish(self, process: Process, expected: int, document: Document, presented: str | None) -> None:
        before = self.section()
        try:
            self.store.swap(NAME, expected, document)
        finally:
            if not self.disk.is_dying and (after := self.section()) != before:
                self._check_write(process, before, after)

    def _check_write(self, process: Process, before: dict[str, Any], after: dict[str, Any]) -> None:
        pid, say = process.identity.pid, self.violations.append
        self.note(f"p{pid} publishes {after['refreshToken']}")
        with self.disk.undisturbed():
            attempt = self.journal.attempt(NAME)
        assert attempt is not None
        if not before["refreshToken"] or Secret(before["refreshToken"]).sha256 != attempt.token:
            say(f"p{pid} overwrites {before['refreshToken'] or 'a stub'}, which it didn't read")
        if not (after["accessToken"] and after["refreshToken"]):
            say(f"p{pid} writes fewer tokens than were there")
        known = {"accessToken", "refreshToken", "expiresAt"}
        document = json.loads(self.disk.peek(self.home.credentials))
        lost = {key for key in before.keys() - known if after.get(key) != before[key]}
        lost |= {key for key in FOREIGN if document.get(key) != FOREIGN[key]}
        if lost:
            say(f"p{pid} drops {', '.join(sorted(lost))}")


def _never(_: float) -> None:
    raise AssertionError("nothing blocks in here")
