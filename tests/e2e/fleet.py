"""Hosts that share their accounts in one PostgreSQL: homes of their own, and perhaps machines of their own."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from e2e.network import Machine
from e2e.parties import CHILDREN, COMMAND, Outcome, SandboxProcess, begin, digest, end, write_config
from e2e.postgres import PostgresServer
from tokenferry.settings import Home

if TYPE_CHECKING:
    from subprocess import Popen


class FleetHost:
    """A home of its own, with a copy of the sealing key."""

    def __init__(self, folder: Path, url: str, provider: str, key: Path, *, machine: Machine | None = None) -> None:
        self.home = Home(folder)
        self.inside: Sequence[str] = () if machine is None else machine.inside
        """What its commands begin with."""
        self.environment = {
            "TOKENFERRY_HOME": str(folder),
            "TOKENFERRY_SEAL_KEY_FILE": str(key),
            "TMPDIR": str(folder / "temporary"),
        }
        folder.mkdir(mode=0o700)
        store = f'[store]\nurl = "{url}"\npool = 2\n'
        write_config(self.home, f'{store}[[providers]]\nname = "sandbox"\nbase_url = "{provider}"\n')

    def begin(self, *words: str, stdin: str | None = None, stdin_open: bool = False) -> "Popen[str]":
        return begin(*self.inside, *words, stdin=stdin, stdin_open=stdin_open, **self.environment)

    def run(self, *words: str, stdin: str = "") -> Outcome:
        return end(self.begin(COMMAND, *words, stdin=stdin))

    def linger(self, name: str = "alice") -> "Lingering":
        """A process that resolves the account and goes on."""
        return Lingering(self.begin(sys.executable, str(CHILDREN / "linger.py"), name, stdin_open=True))

    def token(self, name: str = "alice") -> str:
        """The sha256 of the access token that its command gives."""
        outcome = self.run("token", name)
        assert outcome.code == 0, outcome.err
        return digest(outcome.out.strip())


class Lingering:
    """A process of a host, asked again and again for the token's sha256."""

    def __init__(self, process: "Popen[str]") -> None:
        self._process = process

    def hear(self) -> str:
        """Wait for an answer."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip() or end(self._process).err

    def ask(self) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self.hear()


@dataclass(frozen=True)
class Fleet:
    """Hosts, the server with their database, and the provider with their logins."""

    hosts: Sequence[FleetHost]
    postgres: PostgresServer
    database: str
    sandbox: SandboxProcess

    def form(self) -> None:
        """Make the tables, and have every host seal by the one key."""
        outcomes = [self.hosts[0].run("store", "init")]
        outcomes += [host.run("encryption", "enable") for host in self.hosts]
        assert [outcome.err for outcome in outcomes if outcome.code] == []

    def add(self, name: str = "alice", *, expires_in: int = -3600) -> None:
        """Share a login, whose access token has run out unless you say otherwise."""
        login = self.sandbox.issue(name, expires_in=expires_in)
        outcome = self.hosts[0].run("account", "add", name, "--provider", "sandbox", stdin=json.dumps(login))
        assert outcome.code == 0, outcome.err

    def figures(self, name: str = "alice") -> tuple[int, int]:
        """How many grants there were, and how many presentations of a used-up refresh token."""
        counters = self.sandbox.counters(name)
        return counters["grants"], counters["reuses"]

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        return self.postgres.execute(statement, self.database)

    def end_hold_off(self) -> None:
        """Let the 90 s pass in which no refresh begins after a restart or failover."""
        self.execute("UPDATE fleet SET epoch_since = '-infinity', started = pg_postmaster_start_time()")

    def let_pass(self, seconds: float) -> None:
        """Let that time pass for leases and attempts, which the database's clock measures."""
        passed = f"interval '{seconds:g} s'"
        self.execute(f"UPDATE locks SET until = until - {passed}")
        self.execute(f"UPDATE attempts SET alive_until = alive_until - {passed}, at = at - {seconds:g}")
