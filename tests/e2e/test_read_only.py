"""A home that can't be written to: what only reads works, all else is refused in one sentence with its cure."""

import os
import subprocess

import pytest

from cli.harness import COMMAND, Outcome, tokenferry
from e2e.parties import lacking
from tokenferry.settings import Home

pytestmark = pytest.mark.e2e

MOUNTED = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && shift && exec "$@"'


@pytest.fixture(autouse=True)
def _filled(home: Home) -> None:
    if read_only(home, "--version").code:
        lacking("a mount namespace (unshare -rm)")
    tokenferry("account", "add", "work", "--provider", "anthropic", stdin="sk-ant-api03-aaaaaaaaaaaaaaaa")
    tokenferry("key", "create", "laptop")
    tokenferry("config", "set", "server.port", "1")


def read_only(home: Home, *arguments: str) -> Outcome:
    home.path.mkdir(mode=0o700, exist_ok=True)
    command = ["unshare", "-rm", "sh", "-ec", MOUNTED, "sh", str(home.path), COMMAND, *arguments]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=os.environ
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def test_what_only_reads_works(home: Home) -> None:
    assert read_only(home, "token", "work").out == "sk-ant-api03-aaaaaaaaaaaaaaaa\n"
    for arguments in (("status",), ("account", "list"), ("config", "check"), ("config", "get", "server.port")):
        assert read_only(home, *arguments).code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("serve", "--port", "0"),
        ("key", "create", "another"),
        ("key", "list"),
        ("account", "remove", "work", "--yes"),
        ("use", "work"),
        ("policy", "set", "claude-code-only"),
        ("config", "set", "server.port", "2"),
        ("config", "edit"),
    ],
)
def test_what_writes_is_refused_in_one_sentence(home: Home, arguments: tuple[str, ...]) -> None:
    before = {path.name: path.read_bytes() for path in home.path.iterdir() if path.is_file()}
    outcome = read_only(home, *arguments)
    assert outcome.code == 1
    told = outcome.one_line()
    assert "TOKENFERRY_HOME" in told or "is mounted read-only; change it where it comes from" in told
    assert {path.name: path.read_bytes() for path in home.path.iterdir() if path.is_file()} == before
