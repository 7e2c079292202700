"""A gateway that serves follows its configuration: within a second, or at a HUP, and nothing under way notices."""

import os
import signal
import ssl
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trustme

from cli.harness import COMMAND, Terminal, eventually, tokenferry
from cli.serving import MESSAGE, Served, serving
from tokenferry.sandbox import Sandbox
from tokenferry.settings import Home

Login = Callable[..., dict[str, Any]]
WORKERS = pytest.mark.parametrize("workers", ["1", "2"])


def write(home: Home, sandbox: Sandbox, more: str) -> None:
    """Put another configuration in place, whole."""
    new = home.config.with_name("new.toml")
    new.touch(0o600)
    new.write_text(f'{more}\n[[providers]]\nname = "sandbox"\nbase_url = "{sandbox.url}"\n')
    new.replace(home.config)


def asked(served: Served, host: str | None = None) -> int:
    """Send a message; the status of the answer."""
    headers = served.headers | ({} if host is None else {"host": host})
    return httpx2.post(
        f"{served.url}/v1/messages", content=MESSAGE, headers=headers, trust_env=False, timeout=60
    ).status_code


def who(sandbox: Sandbox) -> str:
    """Whose account the last message reached the provider with."""
    name: str = [one for one in sandbox.requests(last=50) if one["path"] == "/v1/messages"][-1]["account"]
    return name


@WORKERS
def test_requests_under_way_keep_what_they_began_with(
    sandbox: Sandbox, login: Login, home: Home, tmp_path: Path, workers: str
) -> None:
    login("one", "alice")
    login("two", "bob")
    write(home, sandbox, '[router]\naccount = "one"')
    # Its first content comes, and the rest once the other account has answered.
    sandbox.fault("drip", path="/v1/messages", account="alice", bytes=1000, seconds=3600)
    with serving(tmp_path, "--workers", workers) as served:
        with served.stream() as answer:
            chunks = answer.iter_raw()
            text = next(chunks)
            assert b"content_block_start" in text
            write(home, sandbox, '[router]\naccount = "two"')
            served.tell(signal.SIGHUP)
            served.hears("is followed from now on")
            eventually(lambda: asked(served) == 200 and who(sandbox) == "bob")
            assert b"message_stop" not in text
            sandbox.clear()
            text += b"".join(chunks)
        assert b"message_stop" in text
        assert b"event: error" not in text
        served.tell(signal.SIGTERM)
        assert served.end() == 0, served.said


@WORKERS
def test_a_change_is_followed_without_a_signal_and_what_needs_a_start_is_named(
    sandbox: Sandbox, home: Home, login: Login, tmp_path: Path, workers: str
) -> None:
    login()
    with serving(tmp_path, "--workers", workers) as served:
        assert asked(served, "gateway.lan") == 421
        write(home, sandbox, '[server]\nallowed_hosts = ["gateway.lan"]\nport = 1\nuds = "x.sock"\nworkers = 3')
        served.hears("is followed from now on; server.uds will count from the next start")
        eventually(lambda: [asked(served, "gateway.lan") for _ in range(8)] == [200] * 8)
        assert asked(served, "other.lan") == 421


@WORKERS
def test_a_bad_file_is_refused_with_every_fault_and_the_old_one_stays(
    sandbox: Sandbox, home: Home, login: Login, tmp_path: Path, workers: str
) -> None:
    login()
    with serving(tmp_path, "--workers", workers) as served:
        write(home, sandbox, "[server]\nport = 99999\nworkerz = 2")
        served.hears("the configuration is not followed, what held before stays")
        served.hears("server.port must be a whole number from 0 to 65535")
        served.hears("did you mean workers?")
        assert asked(served) == 200
        key = tokenferry("key", "create", "prometheus", "--role", "admin").out.strip()

        def refused() -> bool:
            answer = httpx2.get(f"{served.url}/metrics", headers={"x-api-key": key}, trust_env=False, timeout=60)
            lines = [line for line in answer.text.splitlines() if "config_reloads_total{" in line]
            return [line.split()[1] for line in lines if 'outcome="refused"' in line] == ["1.0"] * int(workers)

        eventually(refused)
        write(home, sandbox, "")
        served.hears("is followed from now on")
        assert served.process.poll() is None


@WORKERS
def test_a_storm_of_hangups_costs_no_request(
    sandbox: Sandbox, home: Home, login: Login, tmp_path: Path, workers: str
) -> None:
    login()
    with serving(tmp_path, "--workers", workers) as served:
        statuses = []
        for number in range(30):
            good = f'[server]\nallowed_hosts = ["h{number}.lan"]'
            write(home, sandbox, good if number % 3 else "[server]\nport = -1")
            for _ in range(20):
                served.tell(signal.SIGHUP)
            statuses.append(asked(served))
        assert statuses == [200] * 30
        served.tell(signal.SIGTERM)
        served.tell(signal.SIGHUP)
        assert served.end() == 0, served.said


def test_a_key_in_a_file_is_read_again_when_that_changes(sandbox: Sandbox, home: Home, tmp_path: Path) -> None:
    file = home.path / "api.key"
    file.touch(0o600)
    file.write_text(sandbox.api_key("dave"))

    def configure(name: str) -> None:
        home.config.touch(0o600)
        home.config.write_text(
            f'[[providers]]\nname = "mine"\nprovider_type = "sandbox"\nauth_type = "api_key"\n'
            f'base_url = "{sandbox.url}"\napi_key = "{name}"\n'
        )

    configure("api.key")
    with serving(tmp_path) as served:
        assert asked(served) == 200
        assert who(sandbox) == "dave"
        file.write_text(sandbox.api_key("carol"))
        eventually(lambda: asked(served) == 200 and who(sandbox) == "carol")


def test_a_file_that_is_gone_changes_nothing(sandbox: Sandbox, home: Home, login: Login, tmp_path: Path) -> None:
    login()
    with serving(tmp_path) as served:
        home.config.unlink()
        served.hears("is gone")
        assert asked(served) == 200


def test_a_renewed_certificate_is_presented_to_the_next_connection(
    sandbox: Sandbox, home: Home, login: Login, tmp_path: Path
) -> None:
    login()
    authorities = trustme.CA(), trustme.CA()
    paths = home.path / "cert.pem", home.path / "key.pem"

    def put(authority: trustme.CA) -> None:
        issued = authority.issue_cert("127.0.0.1")
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        for path, content in zip(paths, (chain, issued.private_key_pem.bytes()), strict=True):
            new = path.with_suffix(".new")
            new.touch(0o600)
            new.write_bytes(content)
            new.replace(path)

    put(authorities[0])
    with serving(tmp_path, "--tls-cert", str(paths[0]), "--tls-key", str(paths[1])) as served:

        def trusts(authority: trustme.CA) -> bool:
            context = ssl.create_default_context()
            authority.configure_trust(context)
            opener = urllib.request.build_opener(
                urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
            )
            try:
                with opener.open(f"https://127.0.0.1:{served.port}/healthz", timeout=60) as answer:
                    return bool(answer.status == 200)
            except OSError:
                return False

        assert trusts(authorities[0])
        put(authorities[1])
        eventually(lambda: trusts(authorities[1]))
        assert not trusts(authorities[0])


def test_the_end_of_its_terminal_ends_it(home: Home) -> None:
    """A HUP of a shell that was closed asks for nothing."""
    program = (
        "import fcntl, os, sys, termios\n"
        "os.setsid()\n"
        "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
        "os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    terminal = Terminal.of([sys.executable, "-c", program, COMMAND, "serve", "--port", "0"])
    terminal.wait_for("no account yet")
    terminal.process.send_signal(signal.SIGHUP)
    terminal.wait_for("is followed from now on")
    assert terminal.hang_up() == 0


def test_who_ignores_hangups_goes_on_ignoring_them(home: Home, tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with serving(tmp_path) as served:
            status = Path(f"/proc/{served.process.pid}/status").read_text().splitlines()
            (ignored,) = [int(line.split()[1], 16) for line in status if line.startswith("SigIgn")]
            assert ignored >> (signal.SIGHUP - 1) & 1
            os.kill(served.process.pid, signal.SIGTERM)
            assert served.end() == 0
    finally:
        signal.signal(signal.SIGHUP, before)
