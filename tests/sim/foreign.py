"""Claude Code as a foreign process, by what was observed of it; none of our code runs in here."""

import json
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.server import Presentation
from tokenferry.oauth import TokenResponse

if TYPE_CHECKING:
    from sim.neighbours import Neighbours

_AHEAD = 300.0
_STALE = 60.0
_STALE_FOLDER = 10.0
_HEARTBEAT = 5.0
_PATIENCE = 33.0
_TIMEOUT = 15.0
_ATTEMPTS = 3


@dataclass
class ForeignSending:
    """One refresh token that it presented. `settled`: what it was answered is in the file."""

    token: str
    presentation: Presentation | None = None
    settled: bool = False


@dataclass(eq=False)
class ClaudeCode:
    """One process of it. `is_old`: it knows the lock beside the folder alone. `refused` is an access token (401)."""

    machine: "Neighbours"
    number: int
    is_old: bool
    refused: str | None = None
    killed: bool = False
    ended: str = ""
    is_robbed: bool = False
    """Another took its lock over."""
    asleep_until: float = 0.0
    in_flight: ForeignSending | None = None
    sent: list[ForeignSending] = field(default_factory=list)
    _held: dict[Path, int] = field(default_factory=dict)
    _steps: Generator[float | bytes, Any, str] | None = None

    def start(self) -> None:
        self._steps = self._run()
        self.machine.note(f"claude {self.number} starts{' (old)' if self.is_old else ''}")
        self._advance(None)

    @property
    def is_alive(self) -> bool:
        return not (self.killed or self.ended)

    @property
    def holds(self) -> bool:
        return bool(self._held)

    def has_made(self, path: Path) -> bool:
        return path in self._held

    def kill(self) -> None:
        self.machine.note(f"claude {self.number} is killed")
        self._steps, self.killed = None, True  # its generator goes without cleaning up

    def sleep(self, seconds: float) -> None:
        """It is suspended."""
        self.machine.note(f"claude {self.number} sleeps for {seconds:g} s")
        self.asleep_until = max(self.asleep_until, self.machine.time + seconds)

    # -- driving

    def _awake(self, seconds: float, action: Callable[[], None]) -> None:
        """Do it after so many seconds, or when it wakes up, if it lives then."""

        def act() -> None:
            if not self.is_alive:
                return
            if self.asleep_until > self.machine.time:
                self._awake(self.asleep_until - self.machine.time, action)
            else:
                action()

        self.machine.later(seconds, act)

    def _advance(self, answer: TokenResponse | None) -> None:
        if not self.is_alive:
            return
        self.machine.strike(self)
        self._awake(0.0, lambda: self._step(answer))

    def _step(self, answer: TokenResponse | None) -> None:
        assert self._steps is not None
        try:
            step = self._steps.send(answer)
        except StopIteration as end:
            self._end(end.value)
        except OSError as fault:
            self._unlock()
            self._end(f"failed: {fault.strerror}")
        else:
            if isinstance(step, bytes):
                self._post(step)
            else:
                self._awake(step, lambda: self._advance(None))

    def _end(self, how: str) -> None:
        self._steps, self.ended, self.in_flight = None, how, None
        self.machine.note(f"claude {self.number} ends: {how}")

    def _post(self, body: bytes) -> None:
        is_done: list[bool] = []

        def answered(answer: TokenResponse | None) -> None:
            if not is_done:
                is_done.append(True)
                self._advance(answer)

        sending = self.in_flight
        assert sending is not None
        arrival = self.machine.network(self, body)
        if arrival is not None:
            there, back, fail = arrival

            def arrive() -> None:
                reply = self.machine.server.handle(body, self.machine.time, fail=fail)
                sending.presentation = self.machine.server.presentations[-1]
                self.machine.note(f"the server answers claude {self.number} with {reply.status}")
                if back is not None:
                    self._awake(back, lambda: answered(reply))

            self.machine.later(there, arrive)
        self._awake(_TIMEOUT, lambda: answered(None))

    # -- what it does

    def _run(self) -> Generator[float | bytes, Any, str]:
        for _ in range(_ATTEMPTS):
            login = self._read()
            if login is None:
                return "logged out"
            if not self._is_due(login):
                return "it is fresh"
            refusal = yield from self._lock()
            if refusal:
                return refusal
            login = self._read()
            if login is None or not self._is_due(login):
                self._unlock()
                return "adopts"
            self.in_flight = ForeignSending(login["refreshToken"])
            self.sent.append(self.in_flight)
            self.machine.check_foreign_sending(self, login["refreshToken"])
            answer: TokenResponse | None = yield json.dumps({"refresh_token": login["refreshToken"]}).encode()
            if answer is not None:
                yield from self._take(answer)
            self._unlock()
            self.in_flight = None
            if answer is not None:
                return f"answered {answer.status}"
            yield 1.0  # the answer was lost: it presents the old token again
        return "gives up"

    def _take(self, answer: TokenResponse) -> Generator[float, Any, None]:
        told = json.loads(answer.body)
        if answer.status == 200:
            expires_at = round((self.machine.now() + told["expires_in"]) * 1000)
            section = {"accessToken": told["access_token"], "refreshToken": told["refresh_token"]}
            yield from self._write(section | {"expiresAt": expires_at})
        elif answer.status == 400:
            self.machine.note(f"claude {self.number} blanks the file")
            yield from self._write({"accessToken": "", "refreshToken": "", "expiresAt": 0})

    def _read(self) -> dict[str, Any] | None:
        """Its section of the file; None for a stub."""
        section: dict[str, Any] = self._document()["claudeAiOauth"]
        return section if section["refreshToken"] else None

    def _document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.machine.disk.read(self.machine.home.credentials))
        return document

    def _is_due(self, login: dict[str, Any]) -> bool:
        left: float = login["expiresAt"] / 1000 - self.machine.now()
        return left < _AHEAD or login["accessToken"] == self.refused

    def _write(self, section: dict[str, Any]) -> Generator[float, Any, None]:
        """Without a look at which tokens it replaces; what it doesn't know in the section it drops."""
        disk, home = self.machine.disk, self.machine.home
        while not self._make(home.write_lock, _STALE_FOLDER):
            yield 0.1
        yield 0.005
        try:
            document = self._document() | {"claudeAiOauth": section}
            temporary = home.credentials.with_name(f"{home.credentials.name}.tmp.{self.number:08x}")
            disk.drop(temporary)
            descriptor = disk.create(temporary)
            disk.write(descriptor, json.dumps(document).encode())
            disk.fsync(descriptor)
            disk.close(descriptor)
            yield 0.005
            disk.rename(temporary, home.credentials)
            disk.sync_folder(home.credentials.parent)
            if self.in_flight:
                self.in_flight.settled = True
        finally:
            if self.is_alive:
                disk.drop(home.write_lock)

    # -- its locks

    def _lock(self) -> Generator[float, Any, str]:
        """Why it doesn't hold them; empty when it does."""
        home, began = self.machine.home, self.machine.time
        wanted = [] if self.is_old else [(home.refresh_lock, _STALE)]
        for path, stale in [*wanted, (home.folder_lock, _STALE_FOLDER)]:
            while not self._make(path, stale):
                login = self._read()
                if login is None or not self._is_due(login):
                    self._unlock()
                    return "adopts what others wrote"
                if self.machine.time - began > _PATIENCE:
                    self._unlock()
                    return "gave up waiting"
                yield self.machine.rng.uniform(0.2, 1.0)
            self._held[path] = self.machine.disk.status(path).st_mtime_ns
            if len(self._held) == 1:
                self._awake(_HEARTBEAT, self._beat)
        return ""

    def _make(self, path: Path, stale: float) -> bool:
        disk = self.machine.disk
        try:
            disk.make_directory(path)
        except FileExistsError:
            age = self.machine.now() - disk.status(path).st_mtime
            if age <= stale:
                return False
            self.machine.taken_over(self, path)
            disk.remove_directory(path)
            disk.make_directory(path)
        return True

    def _beat(self) -> None:
        if not self._held:
            return
        disk = self.machine.disk
        for path, known in list(self._held.items()):
            if not disk.exists(path) or disk.status(path).st_mtime_ns != known:
                self.machine.note(f"claude {self.number} finds {path.name} lost")
                del self._held[path]
            else:
                descriptor = disk.open_directory(path)
                disk.touch(descriptor)
                disk.close(descriptor)
                self._held[path] = disk.status(path).st_mtime_ns
        self._awake(_HEARTBEAT, self._beat)

    def _unlock(self) -> None:
        """It removes what it believes to hold, whoever made it."""
        for path in reversed(list(self._held)):
            self.machine.disk.drop(path)
        self._held.clear()
