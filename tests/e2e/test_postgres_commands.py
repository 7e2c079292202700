"""The commands over a real PostgreSQL: keys made on one host count on another."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from e2e.parties import COMMAND, begin, end, tokenferry
from e2e.postgres import PostgresServer
from ledger.books import NOW, PRICES, entry
from tokenferry.cli._statusline import statusline
from tokenferry.databases import open_ledger, open_state
from tokenferry.ledger import WindowPoint
from tokenferry.postgres import ConnectionPool
from tokenferry.settings import Home

pytestmark = pytest.mark.e2e


def configure(home: Home, url: str, more: str = "") -> None:
    home.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    home.config.write_text(f'[store]\nurl = "{url}"\n{more}')
    home.config.chmod(0o600)


def findings(where: str) -> list[dict[str, Any]]:
    found = json.loads(tokenferry("doctor", "--json").out)
    return [one for one in found if one["where"] == where]


def test_the_owner_makes_tables_and_the_gateways_role_uses_them(
    home: Home, postgres: PostgresServer, tmp_path: Path
) -> None:
    name = postgres.create()
    role = f"serves_{name}"
    postgres.execute(f"CREATE ROLE {role} LOGIN")
    configure(home, postgres.url(name, user=role), 'fleet = "prod"\n')
    (found,) = findings("[store]")
    assert "store init" in found["cure"]
    before = tokenferry("store", "status")
    assert (before.code, "store init" in before.out) == (1, True)
    assert tokenferry("key", "list").code == 1
    typed = tokenferry("store", "init", "--url", "postgresql://owner:hunter2@db/x")
    assert (typed.code, "must not hold a password" in typed.err, "hunter2" in typed.err) == (2, True, False)
    assert tokenferry("store", "init", "--url", postgres.url(name)).code == 0
    postgres.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}", name)
    assert "may only read" in tokenferry("store", "status").out
    assert "may only read" in " ".join(finding["what"] for finding in findings("[store]"))
    made = tokenferry("store", "init", "--url", postgres.url(name), "--grant-to", role, "--json")
    assert (made.code, json.loads(made.out)["fleet"]) == (0, "prod"), made.err
    assert tokenferry("store", "upgrade").code == 0
    found = json.loads(tokenferry("store", "status", "--json").out)
    assert (found["fault"], found["schema"]) == (None, found["schema_of_this_version"])
    assert findings("[store]") == []
    assert "a failover may lose the latest changes" in " ".join(tokenferry("doctor").err.split())
    assert tokenferry("key", "create", "ci", "--rpm", "60").code == 0
    assert "together may exceed a rate by 31 seconds' worth" in tokenferry("key", "show", "ci").out
    # Another host has another home, and the same database.
    other = Home(tmp_path / "other")
    configure(other, postgres.url(name, user=role), 'fleet = "prod"\n')
    assert "ci" in tokenferry("--home", str(other.path), "key", "list").out
    assert tokenferry("--home", str(other.path), "key", "revoke", "ci").code == 0
    assert "revoked" in tokenferry("key", "list").out
    assert not home.state.exists()
    configure(other, postgres.url(name, user=role), 'fleet = "staging"\n')
    refused = tokenferry("--home", str(other.path), "key", "list")
    assert (refused.code, "holds the fleet 'prod'" in refused.err) == (1, True)
    for words in (("token", "work"), ("account", "list"), ("refresh", "work")):
        refused = tokenferry("--home", str(other.path), *words)
        assert (refused.code, "holds the fleet 'prod'" in refused.err) == (1, True), refused


def test_accounts_left_in_files_are_found(home: Home, postgres: PostgresServer, connections: ConnectionPool) -> None:
    added = tokenferry("account", "add", "work", "--provider", "anthropic", stdin="sk-ant-api03-" + "x" * 95)
    assert added.code == 0, added.err
    with connections.lease() as connection:
        configure(home, postgres.url(connection.info.dbname))
    assert json.loads(tokenferry("account", "list", "--json").out) == []
    (found,) = findings(str(home.accounts))
    assert ("work" in found["what"], found["cure"]) == (True, "tokenferry store migrate")


def test_the_status_line_is_the_same_over_files_and_over_a_database(
    home: Home, postgres: PostgresServer, connections: ConnectionPool
) -> None:
    def write() -> None:
        points = [WindowPoint("max", "5h", NOW - at, 0.2, NOW + 7200 - at, "allowed") for at in (100, 200)]
        with open_ledger(home) as ledger:
            ledger.write([entry(1, account="max"), entry(2, account="max", billing="plan")], PRICES, points)

    session = json.dumps({"session_id": "s-1"})
    write()
    line = statusline(session, NOW)
    assert line.startswith("max | 5h 20% (1h58m) | $")
    with connections.lease() as connection:
        configure(home, postgres.url(connection.info.dbname))
    assert statusline(session, NOW) == ""
    write()
    assert statusline(session, NOW) == line
    assert tokenferry("claude-code", "statusline", stdin=session).out.startswith("max | $")
    configure(home, postgres.url("nowhere"))
    assert statusline(session, NOW) == "usage unknown; see: tokenferry store status"


def test_a_home_of_files_never_imports_the_driver(home: Home) -> None:
    home.config.write_text('[router]\nproviders = ["anthropic"]\n')
    home.config.chmod(0o600)
    for words in (("key", "create", "ci"), ("key", "list"), ("store", "status")):
        outcome = end(begin(COMMAND, *words, PYTHONPROFILEIMPORTTIME="1"))
        assert outcome.code == 0, outcome.err
        assert "psycopg" not in outcome.err


def test_keys_and_accounts_of_a_home_work_as_before_once_it_shares_a_database(
    home: Home, postgres: PostgresServer, connections: ConnectionPool, tmp_path: Path
) -> None:
    with connections.lease() as connection:
        url = postgres.url(connection.info.dbname)
    made = json.loads(tokenferry("key", "create", "ci", "--json").out)
    added = tokenferry("account", "add", "work", "--provider", "anthropic", stdin="sk-ant-api03-" + "x" * 95)
    assert added.code == 0, added.err
    token = tokenferry("token", "work").out
    with open_ledger(home) as ledger:
        ledger.write([entry(number) for number in range(3)], PRICES)
    configure(home, url)
    assert "ci" not in tokenferry("key", "list").out
    sealed = tokenferry("store", "migrate", "--json")
    assert (sealed.code, "encryption enable" in json.loads(sealed.out)["accounts_left"]["work"]) == (1, True)
    configure(home, url, "unsealed = true\n")
    with open_ledger(home) as ledger:
        assert ledger.rows("SELECT count(*) FROM requests")[0][0] == 3
    moved = json.loads(tokenferry("store", "migrate", "--json").out)
    assert (moved["keys"], moved["left"], moved["requests"]) == (0, [], 0)
    assert (moved["accounts"], moved["accounts_left"]) == (["work"], {})
    assert (tokenferry("token", "work").out, list(home.accounts.iterdir())) == (token, [])
    with open_state(home) as state:
        found = state.keys.verify(made["key"])
        assert found is not None
        assert found.name == "ci"
    other = Home(tmp_path / "other")
    configure(other, url, "unsealed = true\n")
    back = tokenferry("--home", str(other.path), "store", "migrate", "--from", url, "--to", "files")
    assert back.code == 0, back.err
    other.config.unlink()
    assert "ci" in tokenferry("--home", str(other.path), "key", "list").out
    assert tokenferry("--home", str(other.path), "token", "work").out == token
    with open_ledger(other) as ledger:
        assert ledger.rows("SELECT count(*) FROM requests")[0][0] == 3
    assert json.loads(tokenferry("account", "list", "--json").out) == []


def test_two_hosts_take_another_key_one_after_the_other(
    home: Home, postgres: PostgresServer, connections: ConnectionPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connections.lease() as connection:
        url = postgres.url(connection.info.dbname)
    monkeypatch.setenv("TMPDIR", str(_made(tmp_path / "tmp")))
    other, files = Home(tmp_path / "other"), [tmp_path / "own.key", tmp_path / "others.key"]

    def run(number: int, *words: str, stdin: str = "", code: int = 0) -> str:
        """A command of the first or of the second host."""
        monkeypatch.setenv("TOKENFERRY_HOME", str((home, other)[number].path))
        monkeypatch.setenv("TOKENFERRY_SEAL_KEY_FILE", str(files[number]))
        outcome = end(begin(COMMAND, *words, stdin=stdin))
        assert outcome.code == code, (words, outcome.out, outcome.err)
        return " ".join((outcome.out + outcome.err).split())

    for one in (home, other):
        configure(one, url)
    run(0, "encryption", "enable")
    assert "isn't available" not in run(0, "encryption", "status")
    assert "copy its file from one of them" in run(1, "encryption", "enable", code=8)
    shutil.copy(files[0], files[1])
    run(1, "encryption", "enable")
    key = "sk-ant-api03-" + "x" * 95
    run(1, "account", "add", "work", "--provider", "anthropic", stdin=key)
    assert "can't open; copy" in run(0, "encryption", "rotate-key", code=6)
    assert "can't open what" in run(0, "store", "status")
    assert "can't open what" in run(0, "doctor", code=1)
    assert run(1, "token", "work") == key
    assert "--forget-key" in run(0, "encryption", "rotate-key", "--forget-key", code=2)
    assert "store.unsealed true" in run(0, "encryption", "disable", code=2)
    shutil.copy(files[0], files[1])
    run(1, "encryption", "enable")
    assert "encrypted 1 accounts" in run(0, "encryption", "rotate-key")
    assert "can't open" not in run(0, "store", "status")
    assert run(0, "encryption", "status").startswith("on, 1 of 1 accounts")
    assert "everything is encrypted already" in run(1, "encryption", "enable")
    for file, number in ((files[0], 0), (files[1], 1)):
        file.write_text(file.read_text().splitlines()[0] + "\n")  # the old key's line is gone
        assert run(number, "token", "work") == key


def _made(folder: Path) -> Path:
    folder.mkdir(mode=0o700)
    return folder
