"""State and ledger through PgBouncer in transaction mode, where each transaction may be on another backend."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.parties import eventually, lacking
from e2e.postgres import PostgresServer, as_user
from ledger.books import NOW, PRICES, entry
from tokenferry.ledger import Ledger
from tokenferry.postgres import ConnectionPool, PostgresDatabase, RevisionWatch, initialise
from tokenferry.settings import StoreSettings
from tokenferry.state import State

pytestmark = pytest.mark.e2e

CONFIG = """[databases]
* = host=127.0.0.1 port={server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
auth_type = trust
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = 2
unix_socket_dir =
"""


@pytest.fixture
def pooled(postgres: PostgresServer) -> Iterator[StoreSettings]:
    """A database without tables, behind two connections that all share."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        lacking("pgbouncer")
    name, folder = postgres.create(), postgres.folder / "pooler"
    folder.mkdir(exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "users").write_text('"postgres" ""\n')
    (folder / "ini").write_text(CONFIG.format(server=postgres.port, port=port, folder=folder))
    command = [*as_user(), program, str(folder / "ini")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as pooler:
        try:
            eventually(lambda: answers(port) or pooler.poll() is not None, "the pooler listens")
            yield StoreSettings(url=f"postgresql://postgres@127.0.0.1:{port}/{name}", pool=8)
        finally:
            pooler.kill()
    postgres.drop(name)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_tables_state_and_ledger_work_and_changes_are_found_by_asking(pooled: StoreSettings, tmp_path: Path) -> None:
    one, other, third = (ConnectionPool(pooled) for _ in range(3))
    initialise(one, "default")
    assert one.facts().is_pooled
    watch = RevisionWatch(other, pooled)
    with State(PostgresDatabase(one, "state")) as here, State(PostgresDatabase(other, "state", watch)) as there:
        watch.start()
        _, secret = here.keys.create("ci")
        eventually(lambda: there.keys.verify(secret.reveal()), "the key counts")
        here.keys.revoke("ci")
        eventually(lambda: there.keys.verify(secret.reveal()) is None, "the key stops")
    with Ledger(PostgresDatabase(third, "ledger"), now=lambda: NOW) as ledger:
        for batch in range(10):
            ledger.write([entry(batch * 10 + number) for number in range(10)], PRICES)
        assert ledger.rows("SELECT sum(requests) AS n FROM hours")[0]["n"] == 100
