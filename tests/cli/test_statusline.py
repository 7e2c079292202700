"""The status line says in a few milliseconds what a session's account has left, and never fails."""

import json
import subprocess
import sys

import pytest

from ledger.books import NOW, PRICES, entry
from tokenferry.cli._statusline import statusline
from tokenferry.ledger import Ledger, WindowPoint
from tokenferry.settings import Home

HOUR = 3600
HEAVY = {"typer", "tokenferry.ledger", "tokenferry.databases", "pathlib", "asyncio", "ssl"}
SESSION = json.dumps({"session_id": "s-1", "model": {"display_name": "Opus"}})


@pytest.fixture
def used(home: Home) -> Home:
    with Ledger(home.ledger) as ledger:
        points = [
            WindowPoint("max", "5h", NOW - 200, 0.2, NOW + 2 * HOUR, "allowed"),
            WindowPoint("max", "5h", NOW - 100, 0.45, NOW + 2 * HOUR + 660, "allowed"),
            WindowPoint("max", "7d", NOW - 100, 0.81, NOW + 75 * HOUR, "allowed_warning"),
            WindowPoint("max", "7d_opus", NOW - 100, 0.1, NOW - 1, "allowed"),
            WindowPoint("bob", "5h", NOW - 100, 0.1, NOW + HOUR, "allowed"),
        ]
        requests = [
            entry(1, at=NOW - 60, account="bob", input=10**6, output=0),
            entry(2, at=NOW - 30, account="max", billing="plan", input=2 * 10**5, output=0),
            entry(3, at=NOW - 10, account="bob", session="s-2"),
        ]
        ledger.write(requests, PRICES, points)
    return home


def test_it_names_the_account_its_windows_and_the_cost_of_the_session(used: Home) -> None:
    assert statusline(SESSION, NOW) == "max | 5h 45% (2h11m) | 7d 81% (3d3h) | $5.00 | plan $1.00"
    assert statusline(SESSION, NOW + 2 * HOUR) == "max | 5h 45% (11m) | 7d 81% (3d1h) | $5.00 | plan $1.00"


@pytest.mark.parametrize("content", ["", "[]", "5", "{}", '{"session_id": 7}', '{"session_id": "s-9"}', "[" * 10_000])
def test_it_is_empty_for_what_it_does_not_know(used: Home, content: str) -> None:
    assert statusline(content, NOW) == ""


def test_it_is_empty_without_a_ledger_and_with_a_damaged_one(home: Home) -> None:
    assert statusline(SESSION, NOW) == ""
    assert not home.ledger.exists()
    home.ledger.write_bytes(b"no database" * 500)
    assert statusline(SESSION, NOW) == ""


@pytest.mark.parametrize(
    "config", ["# [store]\n", "[router]\nproviders = []\n", "[store]\nserve_stale = 60\n", "[store\n"]
)
def test_a_configuration_that_names_no_database_changes_nothing(used: Home, config: str) -> None:
    used.config.write_text(config)
    used.config.chmod(0o600)
    assert statusline(SESSION, NOW).startswith("usage unknown" if config == "[store\n" else "max | 5h 45%")


def test_the_command_imports_nothing_heavy(used: Home) -> None:
    used.config.write_text("# [store]\n")  # as `config init` writes it
    program = (
        "import sys; from tokenferry.cli.entry import main\n"
        "sys.argv[1:] = ['claude-code', 'statusline']\n"
        "main()\n"
        f"print(sorted({HEAVY} & set(sys.modules)), file=sys.stderr)"
    )
    run = subprocess.run([sys.executable, "-c", program], input=SESSION, capture_output=True, text=True, check=True)
    assert run.stdout.startswith("max | ")
    assert run.stderr == "[]\n"
