"""Gateways of the version before the last migration give way to those of this one, over one database and under load."""

import io
import json
import subprocess
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from e2e.balancer import ask, balanced, within
from e2e.parties import COMMAND, SandboxProcess, Server, begin, end, lacking
from e2e.postgres import VERSIONS, PostgresServer
from tokenferry.postgres import migrations
from tokenferry.settings import Home
from wheels import ROOT, build_wheel, install_alone

pytestmark = [pytest.mark.e2e, pytest.mark.parametrize("postgres", VERSIONS[:1], indirect=True)]

_MIGRATIONS = "src/tokenferry/postgres/migrations"
_CONFIG = """
[server]
drain_delay = "2s"
[store]
url = "{url}"
[[providers]]
name = "sandbox"
base_url = "{provider}"
api_key = "$FAKE_KEY"
"""
_BODY = json.dumps({"model": "claude-sonnet-5-5", "max_tokens": 8, "messages": [{"role": "user", "content": "hi"}]})


def git(*words: str) -> bytes:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, check=True).stdout


def commit_before_last_migration() -> str:
    """The last one to change the migrations that had all of them but the last."""
    if not (ROOT / ".git").exists() or git("rev-parse", "--is-shallow-repository").strip() == b"true":
        lacking("the whole history of the source (git fetch --unshallow)")
    wanted = {f"{_MIGRATIONS}/{one.number:04}_{one.name}.sql" for one in migrations()[:-1]}
    for commit in git("rev-list", "HEAD", "--", _MIGRATIONS).decode().split():
        if wanted == set(git("ls-tree", "--name-only", commit, f"{_MIGRATIONS}/").decode().split()):
            return commit
    raise AssertionError(f"no commit has {sorted(wanted)} and nothing else")


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The command of the version before the last migration, installed from its wheel."""
    folder = tmp_path_factory.mktemp("previous")
    with tarfile.open(fileobj=io.BytesIO(git("archive", commit_before_last_migration()))) as archive:
        archive.extractall(folder / "tree", filter="data")
    return str(install_alone(build_wheel(folder, folder / "tree"), folder / "venv").with_name("tokenferry"))


@pytest.fixture
def homes(
    postgres: PostgresServer, sandbox: SandboxProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[Home]:
    """Those of two hosts, over an empty database."""
    monkeypatch.setenv("FAKE_KEY", sandbox.api_key())
    url = postgres.url(postgres.create())
    made = [Home(tmp_path / name) for name in ("h1", "h2")]
    for home in made:
        home.path.mkdir(mode=0o700)
        home.config.write_text(_CONFIG.format(url=url, provider=sandbox.url))
        home.config.chmod(0o600)
    return made


def run(program: str, home: Home, *words: str) -> str:
    outcome = end(begin(program, *words, TOKENFERRY_HOME=str(home.path)))
    assert outcome.code == 0, outcome.err
    return outcome.out


def chat(key: str, server: Server) -> tuple[int, str]:
    return ask(server, "/v1/messages", key, body=_BODY)


def is_served(key: str, server: Server) -> bool:
    return chat(key, server)[0] == 200


def test_gateways_are_upgraded_one_after_the_other_without_a_failed_request(
    previous: str, homes: list[Home], tell: Callable[[str], None]
) -> None:
    """The tables are brought up first. Each version sees the keys of the other, and every request is in the ledger."""
    run(previous, homes[0], "store", "init")
    key = json.loads(run(previous, homes[0], "key", "create", "ci", "--json"))["key"]
    too_old = end(begin(COMMAND, "key", "list", TOKENFERRY_HOME=str(homes[0].path)))
    assert (too_old.code, "tokenferry store upgrade" in too_old.err) == (1, True), too_old
    with balanced(homes, partial(chat, key), previous) as balancer:
        run(COMMAND, homes[0], "store", "upgrade")
        within(10, lambda: balancer.served > 20)
        balancer.restart(homes[0])
        for program, name in ((COMMAND, "new"), (previous, "old")):
            other = json.loads(run(program, homes[0], "key", "create", name, "--json"))["key"]
            for gateway in balancer.ready:
                within(10, partial(is_served, other, gateway))
        balancer.restart(homes[1])
    assert balancer.failed == []
    assert balancer.served > 100
    days = json.loads(run(COMMAND, homes[0], "usage", "daily", "--by", "key", "--json"))["daily"]
    assert sum(day["requests"] for day in days if day["key"] == "ci") == balancer.served
    tell(f"two gateways upgraded under load: {balancer.served} requests, none failed")
