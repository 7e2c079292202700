"""`tokenferry demo`: what goes wrong when programs share a login, and what tokenferry does about it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Final

import httpx2
import typer

from tokenferry.anthropic_beta import OAUTH_BETA
from tokenferry.cli._output import say, say_lines
from tokenferry.cli._typer import examples, new_app
from tokenferry.errors import TokenferryError
from tokenferry.sandbox import Sandbox

app = new_app()

_MODEL: Final = "claude-sonnet-4-5"
_VERSION: Final = "2023-06-01"
_PROGRAMS: Final = 8
_PATIENCE: Final = 60.0
_NEXT: Final = """
That is the whole idea. Now with accounts of your own:
  tokenferry setup                  find your keys, logins and tools, and connect them
  tokenferry account add work --provider anthropic
  tokenferry run -- claude
"""


@app.command("demo", epilog=examples("tokenferry demo", "tokenferry demo --stay"))
def demo(
    *,
    stay: Annotated[bool, typer.Option("--stay", help="Keep the gateway and the fake provider until Ctrl-C.")] = False,
) -> None:
    """Watch a refresh race, a limit and a failover; no account needed.

    Everything runs on this machine, against a fake provider, in a folder that is removed at the end.
    """
    with tempfile.TemporaryDirectory(prefix="tokenferry-demo-") as folder, Sandbox() as sandbox:
        demo_run = _Demo(Path(folder), sandbox)
        demo_run.race_without()
        demo_run.race_with()
        demo_run.add("bob")
        with demo_run.gateway():
            demo_run.converse()
            demo_run.fail_over()
            if stay:
                demo_run.stay()
    if not stay:
        say_lines(_NEXT.splitlines())


class _Demo:
    def __init__(self, folder: Path, sandbox: Sandbox) -> None:
        self._home = folder / "home"
        self._home.mkdir(mode=0o700)
        self._folder = folder
        self._sandbox = sandbox
        self._url = self._key = ""
        config = f'[[providers]]\nname = "sandbox"\nbase_url = "{sandbox.url}"\n'
        (self._home / "config.toml").write_text(config, encoding="utf-8")

    def race_without(self) -> None:
        """Two programs refresh one login by themselves, as most do."""
        _title("1. Without tokenferry: two programs share a login that has expired")
        login = self._sandbox.issue("carol", expires_in=-3600)
        first, second = (self._refresh(login["refresh_token"]) for _ in range(2))
        _check(first.status_code == httpx2.codes.OK, "the first program's refresh")
        say("   program 1 refreshes: it gets a new token, and the old refresh token is used up")
        say(f"   program 2 refreshes with the same one: {second.status_code} {second.json()['error']}")
        token = {"authorization": f"Bearer {first.json()['access_token']}", "anthropic-beta": OAUTH_BETA}
        again = self._message(self._sandbox.url, token)
        _check(again.status_code == httpx2.codes.UNAUTHORIZED, "the revocation of the whole login")
        say(f"   program 1 asks with its new token: {again.status_code}")
        say("   The provider took it for theft and revoked the login: both programs are logged out.")

    def race_with(self) -> None:
        """Several programs ask tokenferry at once."""
        _title(f"2. With tokenferry: {_PROGRAMS} programs ask at once for a token of a login that has expired")
        before = self._counts("alice")
        self.add("alice", expires_in=-3600)
        with ThreadPoolExecutor(_PROGRAMS) as threads:
            tokens = set(threads.map(lambda _: self._run("token", "alice"), range(_PROGRAMS)))
        after = self._counts("alice")
        refreshes = after["refreshes"] - before["refreshes"]
        _check((len(tokens), refreshes, after["reuses"]) == (1, 1, 0), "one refresh for all programs")
        say(f"   $ tokenferry token alice     (x {_PROGRAMS})")
        say(f"   {_PROGRAMS} programs have the same token; the provider counted {refreshes} refresh and no reuse")

    def add(self, name: str, *, expires_in: int | None = None) -> None:
        """Store a login before the gateway starts."""
        login = json.dumps(self._sandbox.issue(name, expires_in=expires_in))
        self._run("account", "add", name, "--provider", "sandbox", stdin=login)

    def converse(self) -> None:
        """Stream a message through the gateway."""
        _title("3. The gateway: a program that knows only its address and a client key")
        say(f"   $ tokenferry serve           {self._url}")
        sys.stdout.write("   a streamed answer: ")
        body = _body("Which way across the river?", stream=True)
        headers = {"x-api-key": self._key, "anthropic-version": _VERSION}
        with httpx2.stream(
            "POST", f"{self._url}/v1/messages", json=body, headers=headers, trust_env=False, timeout=_PATIENCE
        ) as answer:
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    sys.stdout.write(json.loads(line[6:]).get("delta", {}).get("text", ""))
                    sys.stdout.flush()
        say()

    def fail_over(self) -> None:
        """Let the account reach its limit; the next one serves."""
        _title("4. A limit: alice has used up her five hours, and bob is there")
        self._sandbox.settings("alice", limits={"5h": {"status": "rejected", "reset_in": 7200}})
        answer = self._message(self._url, {"x-api-key": self._key})
        _check(answer.status_code == httpx2.codes.OK, "the failover")
        say(f"   the next request: {answer.status_code}, no error and no wait for the program")
        for command, sign in ((("account", "list"), "limited"), (("explain", "request", "last"), "answered 429")):
            say(f"   $ tokenferry {' '.join(command)}")
            say_lines(f"     {line}" for line in self._written(sign, *command).splitlines())

    def stay(self) -> None:
        """Show how to use the running gateway, and wait for Ctrl-C."""
        say_lines(
            (
                "",
                "The gateway and the fake provider stay until Ctrl-C. In another terminal:",
                f"  export TOKENFERRY_HOME={self._home}",
                "  tokenferry status",
                f'  curl {self._url}/v1/messages -H "x-api-key: $(tokenferry token --gateway)" \\',
                "    -H 'anthropic-version: 2023-06-01' -H 'content-type: application/json' \\",
                f"    -d '{json.dumps(_body('Hello'))}'",
                f"  curl {self._sandbox.url}/_sandbox/     what the fake provider can be asked to do",
            )
        )
        signal.pause()

    @contextlib.contextmanager
    def gateway(self) -> Iterator[None]:
        """Run `tokenferry serve` on a free port within the block."""
        port_file, log = self._folder / "port", self._folder / "log"
        command = self._command("serve", "--port", "0", "--port-file", str(port_file))
        with (
            log.open("wb") as output,
            subprocess.Popen(  # noqa: S603  # the command itself
                command, env=self._environment(), stdout=output, stderr=output
            ) as process,
        ):
            try:
                deadline = time.monotonic() + _PATIENCE
                while not port_file.exists():
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise TokenferryError(f"the gateway did not start: {log.read_text(encoding='utf-8').strip()}")
                    time.sleep(0.02)
                self._url = f"http://127.0.0.1:{int(port_file.read_text(encoding='ascii'))}"
                self._key = self._run("token", "--gateway").strip()
                yield
            finally:
                process.terminate()

    def _counts(self, name: str) -> dict[str, Any]:
        counts: dict[str, Any] = self._sandbox.counters()["accounts"].get(name, {"refreshes": 0, "reuses": 0})
        return counts

    def _refresh(self, refresh_token: str) -> httpx2.Response:
        grant = {"grant_type": "refresh_token", "refresh_token": refresh_token, "client_id": "demo"}
        return httpx2.post(f"{self._sandbox.url}/v1/oauth/token", json=grant, trust_env=False, timeout=_PATIENCE)

    def _message(self, url: str, credential: dict[str, str]) -> httpx2.Response:
        headers = {**credential, "anthropic-version": _VERSION}
        return httpx2.post(
            f"{url}/v1/messages", json=_body("Hello"), headers=headers, trust_env=False, timeout=_PATIENCE
        )

    def _run(self, *arguments: str, stdin: str = "") -> str:
        done = subprocess.run(  # noqa: S603  # the command itself
            self._command(*arguments),
            input=stdin,
            env=self._environment(),
            text=True,
            capture_output=True,
            check=False,
            timeout=_PATIENCE,
        )
        if done.returncode:
            raise TokenferryError(f"tokenferry {arguments[0]} ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def _written(self, sign: str, *arguments: str) -> str:
        """A command's output as soon as it contains `sign`: the gateway records a request after it has answered."""
        deadline = time.monotonic() + _PATIENCE
        while sign not in (text := self._run(*arguments)):
            _check(time.monotonic() < deadline, f"{sign!r} in tokenferry {' '.join(arguments)}")
        return text

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "tokenferry", *arguments]

    def _environment(self) -> dict[str, str]:
        """The environment without credentials and proxies, with a home of its own."""
        foreign = ("ANTHROPIC_", "CLAUDE_", "TOKENFERRY_")
        rest = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(foreign) and not name.lower().endswith("_proxy")
        }
        return {**rest, "HOME": str(self._folder), "TOKENFERRY_HOME": str(self._home), "NO_COLOR": "1"}


def _title(text: str) -> None:
    say()
    say(text)


def _check(is_right: bool, what: str) -> None:  # noqa: FBT001  # a condition
    if not is_right:
        raise TokenferryError(f"the demo did not show {what}; this is a defect in tokenferry: please report it")


def _body(text: str, *, stream: bool = False) -> dict[str, Any]:
    return {"model": _MODEL, "max_tokens": 50, "stream": stream, "messages": [{"role": "user", "content": text}]}
