"""The parties of `gateway`: the origin, the load, and what stands between them, each in processes of its own."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOKENFERRY = str(Path(sys.executable).with_name("tokenferry"))
ROOT = Path(__file__).resolve().parent.parent
TICKS = os.sysconf("SC_CLK_TCK")
PATIENCE = 20.0
ACCOUNT_KEY = "sk-ant-api03-of-the-benchmark"

NGINX = """
{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{ worker_connections 4096; }}
http {{
    access_log {folder}/nginx.access;
    client_body_temp_path {folder}/nginx-body;
    proxy_temp_path {folder}/nginx-proxy;
    client_max_body_size 32m;
    client_body_buffer_size 1m;
    keepalive_requests 1000000;
    upstream origin {{ server 127.0.0.1:{origin}; keepalive 512; keepalive_requests 1000000; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://origin;
            proxy_http_version 1.1;
            proxy_buffering off;
            proxy_set_header Connection "";
            proxy_set_header Accept-Encoding identity;
            proxy_set_header x-api-key {key};
        }}
    }}
}}
"""

HAPROXY = """
global
    nbthread 1
    maxconn 4096
defaults
    mode http
    http-reuse always
    timeout connect 10s
    timeout client 300s
    timeout server 300s
frontend clients
    bind 127.0.0.1:{port}
    default_backend origin
backend origin
    http-request set-header accept-encoding identity
    http-request set-header x-api-key {key}
    server origin 127.0.0.1:{origin}
"""


@dataclass(frozen=True)
class Relay:
    """Where it listens, what to present to it, and the process whose CPU time counts, with its children."""

    name: str
    port: int
    pid: int | None = None
    key: str = ACCOUNT_KEY

    def cpu_seconds(self) -> float:
        """User and system time used up to now, proc(5)."""
        return 0.0 if self.pid is None else sum(_cpu_seconds(pid) for pid in (self.pid, *_children(self.pid)))


@dataclass(frozen=True)
class Origin:
    port: int

    def ask(self, what: str) -> dict[str, Any]:
        """`figures`, `reset` or `release`."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{what}", timeout=PATIENCE) as answer:
            told: dict[str, Any] = json.load(answer)
            return told


def load(relay: Relay, **job: Any) -> dict[str, Any]:
    """Let a job run to its end; give its figures."""
    whole = {"host": "127.0.0.1", "port": relay.port, "headers": {"x-api-key": relay.key}, **job}
    command = [sys.executable, "-m", "bench._load"]
    told: dict[str, Any] = json.loads(subprocess.check_output(command, cwd=ROOT, input=json.dumps(whole).encode()))
    return told


@contextmanager
def running_origin() -> Iterator[Origin]:
    command = [sys.executable, "-m", "bench._origin"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield Origin(int(process.stdout.readline()))
        finally:
            process.terminate()


@contextmanager
def running_relays(origin: Origin, folder: Path) -> Iterator[list[Relay]]:
    """The origin itself, nginx and haproxy as far as they are installed, and tokenferry."""
    # Debian keeps both where only root's PATH looks.
    path = f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"
    found: list[Relay] = [Relay("directly", origin.port)]
    begun: list[subprocess.Popen[bytes]] = []
    try:
        for name, config, options in (("nginx", NGINX, ["-c"]), ("haproxy", HAPROXY, ["-db", "-f"])):
            program = shutil.which(name, path=path)
            if program is None:
                continue
            port = _free_port()
            file = folder / f"{name}.conf"
            user = "user root;" if os.geteuid() == 0 else ""
            text = config.format(user=user, folder=folder, origin=origin.port, port=port, key=ACCOUNT_KEY)
            file.write_text(text)
            with (folder / f"{name}.err").open("wb") as errors:
                begun.append(subprocess.Popen([program, *options, str(file)], stderr=errors))
            _await_port(port, begun[-1], folder / f"{name}.err")
            found.append(Relay(name, port, begun[-1].pid))
        found.append(_begin_tokenferry(origin, folder, begun))
        yield found
    finally:
        for process in begun:
            process.terminate()
            process.wait(PATIENCE)


def _begin_tokenferry(origin: Origin, folder: Path, begun: "list[subprocess.Popen[bytes]]") -> Relay:
    home = folder / "home"
    home.mkdir(mode=0o700)
    config = home / "config.toml"
    config.touch(0o600)
    config.write_text(f'[[providers]]\nname = "origin"\nbase_url = "http://127.0.0.1:{origin.port}"\n')
    environ = {**os.environ, "TOKENFERRY_HOME": str(home), "HOME": str(folder)}
    add = [TOKENFERRY, "accounts", "add", "bench", "--provider", "origin", "--kind", "api-key"]
    subprocess.run(add, input=ACCOUNT_KEY.encode(), env=environ, check=True, stdout=subprocess.DEVNULL)
    port_file = folder / "serve.port"
    serve = [TOKENFERRY, "serve", "--port", "0", "--port-file", str(port_file)]
    with (folder / "serve.log").open("wb") as log:
        begun.append(subprocess.Popen(serve, env=environ, stdout=log, stderr=log))
    deadline = time.monotonic() + PATIENCE
    while not port_file.exists():
        assert begun[-1].poll() is None, (folder / "serve.log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    key = subprocess.check_output([TOKENFERRY, "token", "--gateway"], env=environ, text=True).strip()
    return Relay("tokenferry", int(port_file.read_text()), begun[-1].pid, key)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _await_port(port: int, process: "subprocess.Popen[bytes]", errors: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        assert process.poll() is None, errors.read_text()
        try:
            socket.create_connection(("127.0.0.1", port), PATIENCE).close()
        except ConnectionRefusedError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError(f"nobody listens on port {port}")


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
