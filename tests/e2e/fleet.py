"""Hosts that share their accounts in one PostgreSQL: homes of their own, and perhaps machines of their own."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from e2e.network import Machine
from e2e.parties import COMMAND, Outcome, SandboxProcess, begin, digest, end, write_config
from e2e.postgres import PostgresServer
from tokenferry.settings import Home

if TYPE_CHECKING:
    from subprocess import Popen


class FleetHost:
    """A home of its own, with a copy of the sealing key."""

    def __init__(self, folder: Path, url: str, provider: str, key: Path, *, machine: Machine | None = None) -> None:
        self.home = Home(folder)
        self._inside = () if machine is None else machine.inside
        self.environment = {
            "TOKENFERRY_HOME": str(folder),
            "TOKENFERRY_SEAL_KEY_FILE": str(key),
            "TMPDIR": str(folder / "temporary"),
        }
        folder.mkdir(mode=0o700)
        store = f'[store]\nurl = "{url}"\npool = 2\n'
        write_config(self.home, f'{store}[[providers]]\nname = "sandbox"\nbase_url = "{provider}"\n')

    def begin(self, *words: str, stdin: str | None = None, stdin_open: bool = False) -> "Popen[str]":
        return begin(*self._inside, *words, stdin=stdin, stdin_open=stdin_open, **self.environment)

    def run(self, *words: str, stdin: str = "") -> Outcome:
        return end(self.begin(COMMAND, *words, stdin=stdin))

    def token(self, name: str = "alice") -> str:
        """The sha256 of the access token that its command gives."""
        outcome = self.run("token", name)
        assert outcome.code == 0, outcome.err
        return digest(outcome.out.strip())


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

    def add_expired(self) -> None:
        """Share Alice's login, whose access token has run out."""
        login = self.sandbox.issue("alice", expires_in=-3600)
        outcome = self.hosts[0].run("account", "add", "alice", "--provider", "sandbox", stdin=json.dumps(login))
        assert outcome.code == 0, outcome.err

    def figures(self) -> tuple[int, int]:
        """How many grants there were for Alice, and how many presentations of a used-up refresh token."""
        counters = self.sandbox.counters()
        return counters["grants"], counters["reuses"]

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        return self.postgres.execute(statement, self.database)

    def let_pass(self, seconds: float) -> None:
        """Let that time pass for leases, attempts and the hold-off, all of which the database's clock measures."""
        passed = f"interval '{seconds:g} s'"
        self.execute(  # as the first host does that asks after a restart
            "UPDATE fleet SET epoch = epoch + 1, started = pg_postmaster_start_time(), epoch_since = clock_timestamp() "
            "WHERE started <> pg_postmaster_start_time()"
        )
        self.execute(f"UPDATE locks SET until = until - {passed}")
        self.execute(f"UPDATE attempts SET alive_until = alive_until - {passed}, at = at - {seconds:g}")
        self.execute(f"UPDATE fleet SET epoch_since = epoch_since - {passed}")
