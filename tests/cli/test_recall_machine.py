"""Whatever is done to a home in between, the manifest answers as the full path does."""

import contextlib
import io
import os
import sys
import tempfile
import time
from pathlib import Path

import pytest
import time_machine
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from cli.documents import KEY, OAT, settle
from cli.harness import bundle
from cli.recalls import CONFIGURATIONS, full, known, write
from effort import FULL, effort
from tokenferry.broker import Broker
from tokenferry.cli import _home
from tokenferry.cli._run import run
from tokenferry.errors import TokenferryError
from tokenferry.policy_statement import state, withdraw
from tokenferry.sandbox import Sandbox
from tokenferry.settings import Home
from tokenferry.state import Cooldown, GatewayRegistration, Scope, State, local_key

NAMES = st.sampled_from(["a", "b"])
CALLS = ((), ("b", "--json", "--min-ttl", "4000"), ("mine", "--env"), ("--gateway",))


class Differential(RuleBasedStateMachine):
    """Whatever is changed in between, what is known is what the full path answers."""

    sandbox: Sandbox
    hits = 0

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.before = dict(os.environ)
        home = Path(self.folder.name) / "home"
        os.environ |= {"TOKENFERRY_HOME": str(home), "HOME": self.folder.name}
        self.home = Home(home)
        self.clock = time_machine.travel(time.time(), tick=True)
        self.clock.start()
        self.gateways: list[GatewayRegistration] = []
        self.add("a")
        self.configure("none")

    def teardown(self) -> None:
        if not hasattr(self, "folder"):
            return
        while self.gateways:
            self.gateways.pop().end()
        self.clock.stop()
        os.environ.clear()
        os.environ |= self.before
        _home.forget()
        self.folder.cleanup()

    @rule(name=NAMES, kind=st.sampled_from(["oauth", "api-key", "setup-token", "expired"]))
    def add(self, name: str, kind: str = "oauth") -> None:
        """A first login, or another one in its place."""
        provider = "claude-max" if kind == "setup-token" else "sandbox"
        given = {
            "setup-token": OAT,
            "api-key": f"fake-key-{time.time_ns()}",
            "oauth": bundle(self.sandbox.issue("alice")),
            "expired": bundle(self.sandbox.issue("alice", expires_in=-60)),
        }[kind]
        arguments = ["--kind", kind] if kind in {"setup-token", "api-key"} else []
        self.command("account", "add", name, "--provider", provider, "--replace", *arguments, stdin=given)

    @rule(name=NAMES, what=st.sampled_from(["remove", "pause", "resume"]))
    def change_account(self, name: str, what: str) -> None:
        self.command("account", what, name)

    @rule(name=NAMES, age=st.sampled_from(["1h", "none"]))
    def limit_age(self, name: str, age: str) -> None:
        self.command("account", "set", name, "--max-age", age)

    @rule(name=NAMES)
    def use(self, name: str) -> None:
        self.command("use", name)

    @rule(name=NAMES, what=st.sampled_from(["renew", "refuse", "revoke"]))
    def change_login(self, name: str, what: str) -> None:
        if what == "renew":
            self.command("refresh", name)
        elif what == "revoke":
            self.sandbox.revoke("alice", "family")
        else:  # what a program does whose token was answered with 401
            with contextlib.suppress(TokenferryError):
                broker = Broker.from_home(self.home)
                broker.invalidate(name, broker.resolve(name).secret)
                broker.resolve(name)

    @rule(is_own=st.booleans())
    def state_policy(self, *, is_own: bool) -> None:
        self.home.path.mkdir(0o700, exist_ok=True)
        state(self.home.statement, time.time()) if is_own else withdraw(self.home.statement)

    @rule(what=st.sampled_from([*CONFIGURATIONS, "key", "disabled", "fault", "elsewhere", "no TOML"]))
    def configure(self, what: str) -> None:
        sandbox = f'[[providers]]\nname = "sandbox"\nbase_url = "{self.sandbox.url}"\n'
        more = {
            "key": CONFIGURATIONS["provider"] + 'api_key = "$K"\n',
            "disabled": "enabled = false\n",
            "fault": "[policies]\n",
            "elsewhere": "[server]\nprot = 1\n",
            "no TOML": "][",
            "amended": "",
        }
        self.home.path.mkdir(0o700, exist_ok=True)
        write(self.home.config, sandbox + (more | CONFIGURATIONS)[what] * (what != "amended"))

    @rule(
        name=st.sampled_from(["TOKENFERRY_ACCOUNT", "ANTHROPIC_API_KEY", "K"]),
        value=st.sampled_from(["", "a", "b", KEY]),
    )
    def set_variable(self, name: str, value: str) -> None:
        os.environ.pop(name, None)
        if value:
            os.environ[name] = value

    @rule(seconds=st.sampled_from([-7200, -30, 30, 3500, 28_000]))
    def move_clock(self, seconds: int) -> None:
        now = time.time() + seconds
        self.clock.stop()
        self.clock = time_machine.travel(now, tick=True)
        self.clock.start()

    @rule(name=NAMES, seconds=st.sampled_from([None, 60, 5000]))
    def limit(self, name: str, seconds: int | None) -> None:
        with State(self.home.state) as opened:
            scope = Scope("account", name)
            if seconds is None:
                opened.cooldowns.clear(scope)
            else:
                opened.cooldowns.put(Cooldown(scope, "rate", "test", until=int(time.time()) + seconds))

    @rule(is_killed=st.booleans())
    def start_or_stop_a_gateway(self, *, is_killed: bool) -> None:
        if self.gateways:
            gateway = self.gateways.pop()
            gateway.forget() if is_killed else gateway.end()
        else:
            local_key(self.home)
            self.gateways.append(GatewayRegistration(self.home, url="http://127.0.0.1:13456"))

    @rule()
    def restore_from_a_backup(self) -> None:
        """The documents with the times that they had."""
        for path in self.home.accounts.glob("*.json"):
            raw, status = path.read_bytes(), path.stat()
            path.unlink()
            write(path, raw.decode())
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    @invariant()
    def what_is_known_is_what_the_full_path_answers(self) -> None:
        if not hasattr(self, "folder"):
            return
        settle()
        for call in CALLS:
            answer = known(*call)
            if answer is not None:
                type(self).hits += 1
                assert answer == full(*call), call
            else:
                full(*call)

    def command(self, *arguments: str, stdin: str = "") -> None:
        """Carry it out, whether that comes to something or not."""
        quiet = io.StringIO()
        with (
            contextlib.redirect_stdout(quiet),
            contextlib.redirect_stderr(quiet),
            pytest.MonkeyPatch.context() as patched,
        ):
            patched.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
            run(list(arguments))
        _home.forget()


def test_whatever_changes_what_is_known_is_what_the_full_path_answers(tokenferry_sandbox: Sandbox) -> None:
    Differential.sandbox, Differential.hits = tokenferry_sandbox, 0
    run_state_machine_as_test(
        Differential,
        settings=settings(
            max_examples=effort(120) if FULL else 12, stateful_step_count=8, phases=(Phase.generate,), deadline=None
        ),
    )
    assert Differential.hits > 20, "the comparison must not be of nothing"
