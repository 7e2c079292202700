"""What a start costs: a fresh interpreter tells which modules an import brought."""

import subprocess
import sys

import pytest

SERVERS = {"anyio", "asyncio", "httptools", "httpx2", "rich", "sqlite3", "starlette", "typer", "uvicorn"}
SERVERS |= {"concurrent.futures.thread", "http.client", "multiprocessing", "ssl", "urllib.request", "uvloop"}
HEAVY = SERVERS | {"dataclasses", "difflib", "fcntl", "hashlib", "importlib.resources", "inspect", "ipaddress", "json"}
HEAVY |= {"logging", "pathlib", "random", "re", "socket", "subprocess", "tempfile", "tomllib", "typing", "urllib.parse"}


def brought_by(statement: str) -> set[str]:
    script = f"import sys\nbefore = set(sys.modules)\n{statement}\nprint(*sorted(set(sys.modules) - before))"
    arguments = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}\n{script}"]
    result = subprocess.run(arguments, check=True, capture_output=True, text=True, timeout=60)
    return set(result.stdout.split())


def test_importing_tokenferry_brings_itself_alone() -> None:
    brought = brought_by("import tokenferry")
    assert not brought & HEAVY
    assert brought == {"tokenferry"}


def test_asking_for_its_names_brings_nothing_either() -> None:
    assert brought_by("import tokenferry; dir(tokenferry); tokenferry.__all__") == {"tokenferry"}


@pytest.mark.parametrize(
    "module", ["accounts", "broker", "config", "credentials", "errors", "oauth", "providers", "secret", "stores"]
)
def test_what_reads_a_fresh_token_brings_no_server_loop_or_client(module: str) -> None:
    brought = brought_by(f"import tokenferry.{module}")
    assert f"tokenferry.{module}" in brought
    assert not brought & SERVERS


def test_an_error_or_a_secret_costs_little() -> None:
    assert brought_by("import tokenferry.errors") == {"tokenferry", "tokenferry.errors"}
    assert not brought_by("from tokenferry import Secret") & (
        SERVERS | {"dataclasses", "logging", "pathlib", "tomllib"}
    )


def test_a_name_brings_its_own_module_alone() -> None:
    brought = brought_by("from tokenferry import Secret, TokenferryError")
    assert {name for name in brought if name.startswith("tokenferry")} == {
        "tokenferry",
        "tokenferry.errors",
        "tokenferry.secret",
    }
