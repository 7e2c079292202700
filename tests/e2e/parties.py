"""The parties of an end-to-end test, each a process of its own: the command, the sandbox, the gateway."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NoReturn

import pytest
from msgspec.structs import replace

from tokenferry.accounts import Accounts, machine_id, read_credential
from tokenferry.refresh import FileJournal
from tokenferry.settings import Home
from tokenferry.stores import Account, Document, FileStore

COMMAND: Final = str(Path(sys.executable).with_name("tokenferry"))
CHILDREN: Final = Path(__file__).with_name("children")
MODULES: Final = Path(__file__).resolve().parents[2] / "node_modules"
PATIENCE: Final = 120.0


def lacking(what: str) -> NoReturn:
    """Something an end-to-end test needs isn't there: a failure in `make e2e`, else a skip."""
    if os.environ.get("TOKENFERRY_E2E") == "1":
        pytest.fail(f"{what} is needed and missing")
    pytest.skip(f"{what} is needed and missing")


def program(name: str) -> str:
    return shutil.which(name) or lacking(name)


def eventually(holds: Callable[[], object], what: str = "") -> None:
    """Wait until something holds that another process brings about."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, f"it never came about: {what}"
        time.sleep(0.01)


def digest(token: str) -> str:
    return sha256(token.encode()).hexdigest()


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    def one_sentence(self) -> str:
        """What was said on stderr: one line behind the program's name, and nothing on stdout."""
        assert self.out == ""
        assert self.err.startswith("tokenferry: ")
        assert self.err.count("\n") == 1
        assert "Traceback" not in self.err
        return self.err.removeprefix("tokenferry: ").removeprefix("error: ").rstrip("\n")


def tokenferry(*arguments: str, stdin: str = "") -> Outcome:
    """Run the command to its end."""
    return end(begin(COMMAND, *arguments, stdin=stdin))


_begun: "list[subprocess.Popen[str]]" = []


def end_all() -> None:
    """Kill what was begun and goes on, because a test failed."""
    while _begun:
        process = _begun.pop()
        if process.poll() is None:
            process.kill()
            process.communicate()


def begin(
    *arguments: str, stdin: str | None = None, stdin_open: bool = False, **variables: str
) -> "subprocess.Popen[str]":
    """Start a process, and don't wait for it."""
    process = subprocess.Popen(
        arguments,
        stdin=subprocess.PIPE if stdin_open or stdin is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | variables,
    )
    _begun.append(process)
    if stdin is not None:
        assert process.stdin is not None
        process.stdin.write(stdin)
        process.stdin.close()
        process.stdin = None
    return process


def end(process: "subprocess.Popen[str]", *, patience: float = PATIENCE) -> Outcome:
    try:
        out, err = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"{process.args!r} did not end within {patience:g} s: {out!r} {err!r}") from None
    return Outcome(process.returncode, out, err)


def fetch(url: str, body: Any = None, *, method: str | None = None) -> Any:
    """A JSON call to a party's side door, past any proxy."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"}, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=PATIENCE) as answer:
        return json.loads(answer.read())


@dataclass(frozen=True)
class Server:
    """A running `tokenferry serve` or `tokenferry sandbox`."""

    url: str
    process: "subprocess.Popen[bytes]"
    log: Path


@contextlib.contextmanager
def running(
    command: str,
    folder: Path,
    *options: str,
    port: int = 0,
    program: str = COMMAND,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Server]:
    """Run it, on a free port if none is named, for a block; then it must end well when it is asked to."""
    port_file, log = folder / f"{command}.port", folder / f"{command}.log"
    arguments = [program, command, "--port", str(port), "--port-file", str(port_file), *options]
    environment = {**os.environ, **variables}
    with (
        log.open("ab") as output,
        subprocess.Popen(arguments, stdout=output, stderr=output, env=environment) as process,
    ):
        try:
            eventually(lambda: port_file.exists() or process.poll() is not None, f"{command} listens")
            assert process.poll() is None, log.read_text()
            yield Server(f"http://127.0.0.1:{int(port_file.read_text())}", process, log)
            if process.poll() is None:
                process.terminate()
                assert process.wait(PATIENCE) == 0, log.read_text()
        finally:
            process.kill()


@dataclass(frozen=True)
class SandboxProcess:
    """The fake provider, by its control endpoint."""

    url: str

    def _call(self, call: str, body: Any = None, *, method: str | None = None) -> Any:
        return fetch(f"{self.url}/_sandbox/{call}", body, method=method)

    def issue(self, account: str = "alice", *, expires_in: int = -3600) -> dict[str, Any]:
        login: dict[str, Any] = self._call("issue", {"account": account, "expires_in": expires_in})
        return login

    def api_key(self, account: str = "dave") -> str:
        key: str = self._call("issue", {"account": account, "kind": "api-key"})["key"]
        return key

    def identity_token(self, account: str) -> str:
        token: str = self._call("issue", {"account": account, "kind": "identity-token"})["key"]
        return token

    def long_lived(self, account: str) -> str:
        token: str = self._call("issue", {"account": account, "kind": "long-lived"})["key"]
        return token

    def fault(self, kind: str, **given: Any) -> None:
        self._call("faults", {"kind": kind, **given})

    def clear(self) -> None:
        """Drop the faults, and let hanging requests go on."""
        self._call("faults", method="DELETE")

    def settings(self, **given: Any) -> None:
        self._call("settings", given)

    def advance(self, seconds: float) -> None:
        """Move the sandbox's clock, by which its pauses end."""
        self._call("clock", {"advance": seconds})

    def revoke(self, account: str, what: str) -> None:
        self._call("revoke", {"account": account, "what": what})

    def counters(self, account: str = "alice") -> dict[str, int]:
        counters: dict[str, int] = self._call("counters")["accounts"][account]
        return counters

    def requests(self, path: str = "") -> list[dict[str, Any]]:
        found = self._call("requests?last=1000")["requests"]
        return [request for request in found if request["path"].startswith(path)]

    def is_asked(self, path: str) -> bool:
        """Whether a request to this path waits for its answer."""
        return any(request["status"] is None for request in self.requests(path))


def add_login(home: Home, name: str, provider: str, login: dict[str, Any]) -> None:
    """What `account add` does with a login on its stdin."""
    credential = read_credential(json.dumps(login).encode(), "oauth", "oauth")
    book = Accounts(FileStore(home))
    book.add(Account(name, provider, "oauth", created_at=int(time.time())), credential, machine=machine_id())


def document(home: Home, name: str) -> Document:
    return FileStore(home).read(name)


def age_attempt(home: Home, name: str) -> None:
    """Let the 120 s pass before which a token is not presented again, once a process was killed sending it."""
    journal = FileJournal(home.journal)
    attempt = journal.attempt(name)
    assert attempt is not None
    assert attempt.answer is None
    journal.begin(name, replace(attempt, at=time.time() - 121), replaces=attempt.id)


def write_config(home: Home, text: str) -> None:
    home.config.write_text(text)
    home.config.chmod(0o600)
