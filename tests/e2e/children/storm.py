"""A storm: processes resolve and refresh without end, are killed at random by SIGKILL, and begin anew.

Every one of them notes what it is about to do in one file, with one write each, which a kill leaves whole.
"""

import contextlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn
from unittest.mock import patch
from urllib.parse import parse_qs

import httpx2  # noqa: F401  # imported here once, it need not be in each of the many processes

from e2e.issuer import Issuer
from tokenferry import Broker, TokenferryError
from tokenferry.accounts import Accounts, machine_id, read_credential
from tokenferry.config import load
from tokenferry.credentials import OAuthToken
from tokenferry.oauth import HttpOutcome, TokenRequest
from tokenferry.refresh import FileJournal, RefreshAttempt, _flow, send
from tokenferry.secret import Secret
from tokenferry.settings import Home
from tokenferry.stores import Account, FileStore

WORKERS: Final = 6
ACCOUNTS: Final = tuple(f"account-{number}" for number in range(6))
FORCED: Final = 0.1
SECOND_PRESENTATION: Final = 0.3
"""Seconds, instead of 120, until a token of unknown handling is presented again: a storm doesn't last that long."""


class Notes:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def __call__(self, *words: object) -> None:
        os.write(self._file, f"{' '.join(map(str, words))}\n".encode())

    def count(self, what: str) -> int:
        return sum(line.startswith(f"{what} ") for line in self._path.read_text().splitlines())


class NotedJournal(FileJournal):
    def __init__(self, folder: Path, notes: Notes) -> None:
        super().__init__(folder)
        self._notes = notes

    def answer(self, name: str, attempt: RefreshAttempt, token: OAuthToken) -> None:
        super().answer(name, attempt, token)
        self._notes("journalled", attempt.token, os.getpid())


def work(home: Home, notes: Notes) -> NoReturn:
    def post(request: TokenRequest, timeout: float, sending: Callable[[], None] = lambda: None) -> HttpOutcome:
        token = Secret(parse_qs(request.body.decode())["refresh_token"][0])

        def leave() -> None:
            sending()
            notes("presented", token.sha256, os.getpid())

        return send(request, timeout, leave)

    broker = Broker(
        store=FileStore(home),
        journal=NotedJournal(home.journal, notes),
        providers=load(home.config).providers,
        home=home,
        send=post,
    )
    chance = random.Random(os.getpid())
    seen = set()
    while True:
        name = chance.choice(ACCOUNTS)
        try:
            is_forced = chance.random() < FORCED
            credential = broker.refresh(name) if is_forced else broker.resolve(name, min_ttl=3600)
            if credential.secret.sha256 not in seen:
                seen.add(credential.secret.sha256)
                notes("given", name, credential.secret.sha256)
        except TokenferryError as fault:
            notes("raised", type(fault).__name__)
        time.sleep(chance.uniform(0.0, 0.02))


class Storm:
    def __init__(self, issuer: Issuer, home: Home, notes: Notes) -> None:
        self._issuer = issuer
        self._home = home
        self._notes = notes
        self._store = FileStore(home)
        self._book = Accounts(self._store)
        self._journal = FileJournal(home.journal)
        self._workers: list[int] = []

    def log_in(self, name: str) -> None:
        credential = read_credential(json.dumps(self._issuer.login(name)).encode(), "oauth", "oauth")
        account = Account(name, "idp", "oauth", created_at=int(time.time()))
        self._book.add(account, credential, machine=machine_id(), replacing=True)
        self._notes("login", name)

    def revive(self) -> None:
        """Log in anew where the journal says that a login is dead."""
        for name in ACCOUNTS:
            credential = self._store.read(name).credential
            assert isinstance(credential, OAuthToken)
            assert credential.refresh is not None
            if self._is_dead(name, credential.refresh.sha256):
                self.log_in(name)

    def _is_dead(self, name: str, refresh: str) -> bool:
        failure, attempt = self._journal.failure(name), self._journal.attempt(name)
        if failure is not None and (failure.kind, failure.token) == ("needs-login", refresh):
            return True
        if attempt is None or attempt.token != refresh or attempt.answer is not None:
            return False
        is_hopeless = attempt.tries > 1 and attempt.state not in {"begun", "closed"} and attempt.process.is_gone()
        return attempt.state == "denied" or is_hopeless

    def start(self) -> None:
        process = os.fork()
        if process == 0:
            with contextlib.suppress(BaseException):
                work(self._home, self._notes)
            os._exit(1)
        self._workers.append(process)

    def kill(self, process: int) -> None:
        self._workers.remove(process)
        os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        assert os.WIFSIGNALED(status), "a worker ended by itself"
        self._notes("killed", process)

    def rage(self, seconds: float, patience: float) -> None:
        """Go on for so many seconds; on a slow machine longer, until there was a refresh for each of them."""
        for name in ACCOUNTS:
            self.log_in(name)
        for _ in range(WORKERS):
            self.start()
        chance = random.Random(seconds)
        until = time.monotonic() + seconds
        last = until + patience
        try:
            while (now := time.monotonic()) < until or (now < last and self._notes.count("journalled") <= seconds):
                time.sleep(chance.uniform(0.01, 0.1))
                self.kill(chance.choice(self._workers))
                self.start()
                self.revive()
        finally:
            for process in list(self._workers):
                self.kill(process)


if __name__ == "__main__":
    with patch.object(_flow, "_SECOND_PRESENTATION", SECOND_PRESENTATION):
        storm = Storm(Issuer(sys.argv[1]), Home.from_environment(), Notes(Path(sys.argv[2])))
        storm.rage(*map(float, sys.argv[3:]))
