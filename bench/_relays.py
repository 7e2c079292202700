"""The processes of `gateway`: the origin, the load, and the relays between them."""

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
MAPPED = "claude-of-the-benchmark"
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

CONFIG = """
[[providers]]
name = "origin"
base_url = "http://127.0.0.1:{origin}"

[[models]]
name = "claude-sonnet-5-5"

[[models.mappings]]
provider = "origin"
actual_model = "{model}"
"""
"""tokenferry's: a mapped model. The access log is on by default, and goes to a file."""

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
    """A relay's address, the key to send to it, and the process whose CPU time counts, with its children."""

    name: str
    port: int
    pid: int | None = None
    key: str = ACCOUNT_KEY
    model: str = "claude-sonnet-5-5"
    """The name of the load's model at this relay."""

    def cpu_seconds(self) -> float:
        """User and system time in total (proc(5))."""
        return 0.0 if self.pid is None else sum(_cpu_seconds(pid) for pid in (self.pid, *_children(self.pid)))

    def running_seconds(self) -> float:
        """Time on a processor in nanosecond resolution, of the present threads (proc(5), schedstat)."""
        return sum(int(one.read_text().split()[0]) for one in Path(f"/proc/{self.pid}/task").glob("*/schedstat")) / 1e9

    def resident(self) -> float:
        """Resident memory in MiB."""
        return 0.0 if self.pid is None else sum(_resident(pid) for pid in (self.pid, *_children(self.pid)))


@dataclass(frozen=True)
class Origin:
    port: int
    pid: int

    def cpu_seconds(self) -> float:
        return _cpu_seconds(self.pid)

    def ask(self, what: str) -> dict[str, Any]:
        """Send `figures`, `reset` or `release` to the origin."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{what}", timeout=PATIENCE) as answer:
            figures: dict[str, Any] = json.load(answer)
            return figures


def load(relay: Relay, **job: Any) -> dict[str, Any]:
    """Run a job to its end; give its figures."""
    whole = {"host": "127.0.0.1", "port": relay.port, "headers": {"x-api-key": relay.key}}
    whole |= {"arrives_as": relay.model, **job}
    command = [sys.executable, "-m", "bench._load"]
    figures: dict[str, Any] = json.loads(subprocess.check_output(command, cwd=ROOT, input=json.dumps(whole).encode()))
    return figures


@contextmanager
def running_origin() -> Iterator[Origin]:
    command = [sys.executable, "-m", "bench._origin"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield Origin(int(process.stdout.readline()), process.pid)
        finally:
            process.terminate()


@contextmanager
def running_relays(origin: Origin, folder: Path) -> Iterator[list[Relay]]:
    """The origin itself, nginx and haproxy if installed, a bare relay in Python, and tokenferry.

    All relays run on the same core.
    """
    # Debian installs both into folders of root's PATH.
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
            begun.append(_begin([program, *options, str(file)], folder / f"{name}.err"))
            _await_port(port, begun[-1], folder / f"{name}.err")
            found.append(Relay(name, port, begun[-1].pid))
        port = _free_port()
        command = [sys.executable, "-m", "bench._bare", str(port), str(origin.port), ACCOUNT_KEY]
        begun.append(_begin(command, folder / "bare.err"))
        _await_port(port, begun[-1], folder / "bare.err")
        found.append(Relay("bare relay in Python", port, begun[-1].pid))
        found.append(_begin_tokenferry(origin, folder, begun))
        yield found
    finally:
        for process in begun:
            process.terminate()
            process.wait(PATIENCE)


def time_to_ready(origin: Origin, folder: Path) -> float:
    """Start the gateway of `running_relays` once more, and stop it; give the seconds until it answered."""
    port_file = folder / "again.port"
    port_file.unlink(missing_ok=True)
    started = time.monotonic()
    process = _begin(_serve(port_file), folder / "again.log", _environ(folder))
    try:
        _await_file(port_file, process, folder / "again.log", pause=0.001)
        Origin(int(port_file.read_text()), origin.pid).ask("readyz")
        return time.monotonic() - started
    finally:
        process.terminate()
        process.wait(PATIENCE)


@contextmanager
def running_gateways(origin: Origin, folder: Path, configs: dict[str, str]) -> Iterator[list[Relay]]:
    """One tokenferry per name, with the given beginning of its configuration; all on the same core."""
    begun: list[subprocess.Popen[bytes]] = []
    try:
        yield [_begin_tokenferry(origin, folder / name, begun, config) for name, config in configs.items()]
    finally:
        for process in begun:
            process.terminate()
            process.wait(PATIENCE)


def _begin_tokenferry(
    origin: Origin, folder: Path, begun: "list[subprocess.Popen[bytes]]", extra: str | None = None
) -> Relay:
    home = folder / "home"
    home.mkdir(mode=0o700, parents=True)
    config = home / "config.toml"
    config.touch(0o600)
    config.write_text((extra or "") + CONFIG.format(origin=origin.port, model=MAPPED))
    environ = _environ(folder)
    if extra:
        subprocess.run([TOKENFERRY, "store", "init"], env=environ, check=True, stdout=subprocess.DEVNULL)
    add = [TOKENFERRY, "account", "add", "bench", "--provider", "origin", "--kind", "api-key"]
    subprocess.run(add, input=ACCOUNT_KEY.encode(), env=environ, check=True, stdout=subprocess.DEVNULL)
    port_file = folder / "serve.port"
    begun.append(_begin(_serve(port_file), folder / "serve.log", environ))
    _await_file(port_file, begun[-1], folder / "serve.log")
    key = subprocess.check_output([TOKENFERRY, "token", "--gateway"], env=environ, text=True).strip()
    return Relay("tokenferry", int(port_file.read_text()), begun[-1].pid, key, MAPPED)


def _serve(port_file: Path) -> list[str]:
    return [TOKENFERRY, "serve", "--port", "0", "--port-file", str(port_file)]


def _environ(folder: Path) -> dict[str, str]:
    # Byte code stays, as for an installed package: the first start compiles it.
    present = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    places = {"TOKENFERRY_HOME": folder / "home", "HOME": folder, "PYTHONPYCACHEPREFIX": folder / "compiled"}
    return present | {name: str(place) for name, place in places.items()}


def _begin(command: list[str], log: Path, environ: dict[str, str] | None = None) -> "subprocess.Popen[bytes]":
    """Start a relay on the last available processor; its threads stay there, too."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        with log.open("wb") as out:
            return subprocess.Popen(command, cwd=ROOT, env=environ, stdout=out, stderr=out)
    finally:
        os.sched_setaffinity(0, before)


def _await_file(file: Path, process: "subprocess.Popen[bytes]", log: Path, *, pause: float = 0.02) -> None:
    deadline = time.monotonic() + PATIENCE
    while not file.exists():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline
        time.sleep(pause)


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


def _resident(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024**2


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
