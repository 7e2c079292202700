"""A host whose processes die: each line asks for one that resolves an account and dies by SIGKILL before a step.

Steps are what it asks of its disk and of the database, and the request. A line is `[account, step, file for notes]`,
or `[account, login]` to add one; the answer is how the process ended, and the sha256 of the token or the error.
"""

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import tokenferry.broker._fleet_backend as backend
from e2e.children.crash import Fatal, FatalDisk, fatal_send
from tokenferry import Broker, postgres
from tokenferry.accounts import read_credential
from tokenferry.broker._backend import open_backend
from tokenferry.config import load
from tokenferry.errors import TokenferryError
from tokenferry.fleet import Spill
from tokenferry.postgres import ConnectionPool, PostgresTables
from tokenferry.settings import Home, StoreSettings
from tokenferry.stores import Account


class FatalFlight(Fatal):
    """Counts the steps of the refresh alone: the heartbeat's come whenever they come."""

    def is_last(self, what: str) -> bool:
        return threading.current_thread().name.startswith("tokenferry-grant") and super().is_last(what)


class FatalSpill(FatalDisk):
    """To die before it looks at something is to die behind what it wrote last."""

    def _step(self, what: str) -> None:
        if what not in {"read", "names", "open", "close"}:
            super()._step(what)


class FatalTables(PostgresTables):
    """Dies between what the database did and its answer."""

    def __init__(self, pool: ConnectionPool, settings: StoreSettings, fatal: Fatal) -> None:
        super().__init__(pool, settings)
        self._fatal = fatal

    @contextlib.contextmanager
    def _lease(self) -> Iterator[postgres.PostgresConnection]:
        with super()._lease() as connection:
            yield connection
        self._fatal.step("the database answers")


def add(name: str, login: str) -> str:
    broker = Broker.from_home()
    credential = read_credential(login.encode(), "oauth", "oauth")
    broker.book.add(Account(name, "sandbox", "oauth", created_at=int(time.time())), credential, machine=broker.machine)
    return ""


def resolve(name: str, last: int, log: str) -> str:
    fatal = FatalFlight(last, Path(log))
    vars(backend)["Spill"] = partial(Spill, disk=FatalSpill(fatal, "journal"))
    vars(postgres)["PostgresTables"] = partial(FatalTables, fatal=fatal)
    home = Home.from_environment()
    config = load(home.config)
    broker = Broker(backend=open_backend(home, config.store), providers=config.providers, send=fatal_send(fatal))
    token = broker.resolve(name).secret.sha256
    fatal.note("done")
    return token


def run(*given: Any) -> tuple[int, str]:
    """Do it in a process of its own."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            said = (resolve if len(given) == 3 else add)(*given)
        except TokenferryError as fault:
            said = f"{type(fault).__name__}: {fault}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        said = answer.read()
    return os.waitpid(process, 0)[1], said


if __name__ == "__main__":
    for module in ("httpx2", "httpcore2", "anyio", "cryptography.hazmat.primitives.ciphers.aead"):
        import_module(module)  # once, in place of each process
    for line in sys.stdin:
        sys.stdout.write(f"{json.dumps(run(*json.loads(line)))}\n")
        sys.stdout.flush()
