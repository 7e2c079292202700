"""`encryption enable` and `encryption disable` as a person runs them, with a key file; tests/e2e has the keyring."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.documents import settle
from cli.harness import Outcome, tokenferry
from leaks import shows
from tokenferry.broker import Broker
from tokenferry.cli.token import _sealed_in
from tokenferry.manifest import Dependencies, recall
from tokenferry.sandbox import Sandbox
from tokenferry.sealing import KeyPlace
from tokenferry.settings import Home
from tokenferry.stores import AttachedStore, FileStore, Seal

pytestmark = pytest.mark.usefixtures("free_port")

Inside = Callable[..., Outcome]
Login = Callable[..., dict[str, Any]]

KEY = "sk-ant-api03-" + "k" * 80


@pytest.fixture(autouse=True)
def key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the key is to rest; the temporary folder is elsewhere."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
    path = tmp_path / "stick" / "key"
    monkeypatch.setenv("TOKENFERRY_SEAL_KEY_FILE", str(path))
    return path


@pytest.fixture
def sealed(home: Home, key_file: Path) -> str:
    """A sealed home with one account; gives the key."""
    assert tokenferry("account", "add", "work", stdin=KEY).code == 0
    outcome = tokenferry("encryption", "enable")
    assert outcome.code == 0, outcome
    return key_file.read_text().strip()


def test_what_is_sealed_is_used_as_before_and_no_output_shows_the_key(
    sealed: str, home: Home, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not shows((home.accounts / "work.json").read_text(), KEY)
    assert key_file.stat().st_mode & 0o7777 == 0o600
    monkeypatch.delenv("TOKENFERRY_SEAL_KEY_FILE")  # the home knows where it is
    assert tokenferry("token", "work").out == f"{KEY}\n"
    for command in (
        "encryption enable",
        "status",
        "account list",
        "account show work",
        "doctor",
        "-v status",
        "status --json",
    ):
        outcome = tokenferry(*command.split())
        assert outcome.code == 0, outcome
        assert outcome.hides(sealed, KEY)
    assert not shows(home.audit.read_text() + home.seal.read_text(), sealed, KEY)


def test_a_child_that_is_run_gets_no_sealing_key(sealed: str) -> None:
    show = "import os, pathlib; print(dict(os.environ)); print(pathlib.Path('/proc/self/cmdline').read_text())"
    outcome = tokenferry("run", "--account", "work", "--", sys.executable, "-c", show)
    assert "TOKENFERRY_SEAL_KEY_FILE" in outcome.out, "which names a path, and no key"
    assert outcome.hides(sealed, KEY)


def test_an_account_that_is_added_later_is_sealed(sealed: str, home: Home) -> None:
    assert tokenferry("account", "add", "new", stdin=KEY).code == 0
    assert not shows((home.accounts / "new.json").read_text(), KEY)


def test_status_and_doctor_tell_how_far_it_is(sealed: str, home: Home, inside: Inside) -> None:
    found = inside("status", "--json").json["sealing"]
    assert (found["state"], found["sealed"], found["clear"], found["locked"]) == ("on", ["work"], [], None)
    assert "on, 1 of 1 accounts" in inside("status").out
    assert inside("encryption", "status", "--json").json == found
    assert inside("encryption", "status").out.startswith("on, 1 of 1 accounts")
    assert inside("doctor").code == 0
    marker = home.seal.read_bytes()
    home.seal.unlink()
    assert "names no key" in inside("doctor").out
    assert f"1 of 1 accounts, but {home.seal} is gone" in inside("status").out
    assert tokenferry("account", "add", "plain", stdin=KEY).code == 8
    raw = (home.accounts / "work.json").read_bytes()
    assert tokenferry("encryption", "disable").code == 0
    assert tokenferry("account", "add", "plain", stdin=KEY).code == 0
    (home.accounts / "work.json").write_bytes(raw)
    home.seal.write_bytes(marker)
    home.seal.chmod(0o600)
    assert tokenferry("token", "plain").code == 8
    assert "in clear in a sealed home" in inside("doctor").out
    assert "in clear in a sealed home" in inside("status").out
    assert tokenferry("encryption", "enable").code == 8
    assert tokenferry("encryption", "enable", "--accept", "plain").out.startswith("encrypted 1 accounts with key")
    assert tokenferry("encryption", "enable").out.startswith("everything is encrypted already")
    assert inside("doctor").code == 0


def test_a_marker_that_was_changed_by_hand_is_reported_and_a_renewal_stays_sealed(
    login: Login, sandbox: Sandbox, home: Home, inside: Inside
) -> None:
    login()
    assert tokenferry("encryption", "enable").code == 0
    home.seal.write_bytes(home.seal.read_bytes().replace(b'"opening": false', b'"opening": true'))
    outcome = inside("refresh", "work")
    assert outcome.code == 0
    assert "can't be trusted" in outcome.err
    renewed = FileStore(home, seal=Seal(home)).read("work").credential
    raw = (home.accounts / "work.json").read_text()
    assert not shows(raw, renewed.secret.reveal())
    assert "can't be trusted" in inside("status").out
    assert "cure: " in (found := inside("doctor").out)
    assert "tokenferry encryption enable" in found
    assert tokenferry("account", "add", "new", stdin=KEY).code == 8
    assert tokenferry("encryption", "enable").code == 0
    assert tokenferry("account", "add", "new", stdin=KEY).code == 0


def test_without_the_key_accounts_are_listed_as_locked_and_nothing_is_given_or_added(
    sealed: str, home: Home, key_file: Path
) -> None:
    key_file.rename(key_file.with_name("away"))
    outcome = tokenferry("token", "work")
    assert outcome.code == 6
    assert "account 'work' is sealed: the key file" in outcome.one_line()
    (row,) = tokenferry("account", "list", "--json").json
    assert (row["state"], row["provider"], row["kind"]) == ("locked", "anthropic", "api-key")
    assert "locked: account 'work'" in tokenferry("account", "list").out
    assert tokenferry("account", "add", "new", stdin=KEY).code == 6
    assert tokenferry("account", "remove", "work", "--yes").code == 6
    assert sorted(path.name for path in home.accounts.iterdir()) == ["work.json"]
    findings = tokenferry("doctor", "--json").json
    assert [one["what"].partition(":")[0] for one in findings] == ["isn't available now"]
    assert tokenferry("encryption", "enable").code == tokenferry("encryption", "rotate-key").code == 6
    assert not key_file.exists()


def test_a_key_file_that_is_not_safe_leaves_accounts_locked_and_is_reported_once(sealed: str, key_file: Path) -> None:
    key_file.chmod(0o644)
    (row,) = tokenferry("account", "list", "--json").json
    assert (row["state"], row["provider"]) == ("locked", "anthropic")
    assert "chmod 0600" in row["text"]
    assert len(tokenferry("doctor", "--json").json) == 1
    assert tokenferry("token", "work").code == 8


def test_no_login_is_begun_that_could_not_be_kept(sealed: str, key_file: Path, sandbox: Sandbox) -> None:
    key_file.unlink()
    outcome = tokenferry("login", "new", "--provider", "sandbox", "--no-browser")
    assert outcome.code == 6
    assert "the key file" in outcome.one_line()


def test_a_lost_key_is_explained_and_the_account_can_be_given_up(sealed: str, key_file: Path, home: Home) -> None:
    key_file.write_text("tfs_" + "0" * 64 + "\n")
    outcome = tokenferry("token", "work")
    assert outcome.code == 8
    for words in ("can't be opened without it", "from a backup", "lost for good", "account remove"):
        assert words in outcome.one_line()
    assert "is lost" in tokenferry("doctor").out
    assert tokenferry("account", "remove", "work", "--yes").code == 0
    assert list(home.accounts.iterdir()) == []


def test_the_cure_of_a_broken_marker_works(
    sealed: str, home: Home, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.seal.write_text("{")
    monkeypatch.delenv("TOKENFERRY_SEAL_KEY_FILE")
    outcome = tokenferry("encryption", "enable")
    assert outcome.code == 8
    assert (
        "remove it and run: tokenferry encryption enable (with TOKENFERRY_SEAL_KEY_FILE naming the key's file"
        in outcome.one_line()
    )
    home.seal.unlink()
    assert tokenferry("encryption", "enable", TOKENFERRY_SEAL_KEY_FILE=str(key_file)).code == 0
    assert tokenferry("token", "work").out == f"{KEY}\n"
    assert key_file.read_text().strip() == sealed


def test_a_key_is_replaced_and_the_old_one_forgotten_on_demand(sealed: str, key_file: Path) -> None:
    outcome = tokenferry("encryption", "rotate-key")
    assert outcome.code == 0
    assert "the old key" in outcome.err
    new, old = key_file.read_text().split()
    assert old == sealed
    outcome = tokenferry("encryption", "rotate-key", "--forget-key")
    assert "is removed" in outcome.out
    newest, oldest = key_file.read_text().split()
    assert newest not in {new, old}
    assert oldest == old, "one that an earlier rotation left is nobody's to remove"
    assert tokenferry("token", "work").out == f"{KEY}\n"
    assert tokenferry("encryption", "enable", "--forget-key").code == 2


def test_unsealing_gives_everything_back(sealed: str, home: Home, key_file: Path) -> None:
    outcome = tokenferry("encryption", "disable", "--forget-key")
    assert (outcome.code, outcome.out.splitlines()[0]) == (0, "decrypted 1 accounts")
    assert not key_file.exists()
    assert not home.seal.exists()
    assert json.loads((home.accounts / "work.json").read_text())["credential"]["key"] == KEY
    assert tokenferry("token", "work").out == f"{KEY}\n"
    assert tokenferry("encryption", "disable").code == tokenferry("encryption", "rotate-key").code == 2


def test_a_keyring_that_is_none_is_refused_by_name(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOKENFERRY_SEAL_KEY_FILE")
    tokenferry("account", "add", "work", stdin=KEY)
    outcome = tokenferry("encryption", "enable")
    assert outcome.code == 3
    assert "keyring.backends.null.Keyring" in outcome.one_line()
    assert not home.seal.exists()


def test_a_plaintext_keyring_is_refused_by_name_and_is_given_nothing(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = tmp_path / "library" / "keyrings" / "alt"
    package.mkdir(parents=True)
    package.with_name("alt").joinpath("file.py").write_text(
        "from keyring.backend import KeyringBackend\n"
        "class PlaintextKeyring(KeyringBackend):\n"
        "    priority = 1\n"
        "    def get_password(self, service, name): raise SystemExit(99)\n"
        "    set_password = delete_password = get_password\n"
    )
    monkeypatch.delenv("TOKENFERRY_SEAL_KEY_FILE")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "library"))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyrings.alt.file.PlaintextKeyring")
    outcome = tokenferry("encryption", "enable")
    assert outcome.code == 3
    assert "keyrings.alt.file.PlaintextKeyring" in outcome.one_line()


def test_the_key_is_not_laid_beside_what_it_seals(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENFERRY_SEAL_KEY_FILE", str(home.path / "key"))
    outcome = tokenferry("encryption", "enable")
    assert outcome.code == 2
    assert "a copy of the folder would have the key" in outcome.one_line()


def test_a_sealed_login_is_renewed_and_stays_sealed(login: Login, sandbox: Sandbox, home: Home) -> None:
    issued = login()
    assert tokenferry("encryption", "enable").code == 0
    before = FileStore(home).read("work").credential
    assert tokenferry("refresh", "work").code == 0
    seal = Seal(home)
    renewed = FileStore(home, seal=seal).read("work")
    assert renewed.credential.secret != before.secret
    raw = (home.accounts / "work.json").read_text()
    assert not shows(raw, issued["access_token"], issued["refresh_token"], renewed.credential.secret.reveal())
    assert tokenferry("token", "work").out.strip() == renewed.credential.secret.reveal()


def test_a_sealed_document_is_recalled_while_it_its_key_and_the_marker_are_the_same(
    sealed: str, home: Home, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle()
    assert tokenferry("token", "work").out == f"{KEY}\n"
    assert recall(["work"]) == (f"{KEY}\n", "")
    monkeypatch.delenv("TOKENFERRY_SEAL_KEY_FILE")
    assert recall(["work"]) is None, "another environment"
    assert tokenferry("token", "work").out == f"{KEY}\n", "the home says where the key is"
    assert recall(["work"]) == (f"{KEY}\n", "")
    path = home.accounts / "work.json"
    whole, marker, keys = path.read_bytes(), home.seal.read_bytes(), key_file.read_bytes()
    for file, changed in (
        *((path, whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]) for place in range(0, len(whole), 97)),
        (home.seal, marker.replace(str(key_file).encode(), b"/nowhere/key")),
        (key_file, b"tfs_" + b"0" * 64),
    ):
        before = file.read_bytes()
        file.write_bytes(changed)
        assert recall(["work"]) is None
        file.write_bytes(before)
    assert (path.read_bytes(), home.seal.read_bytes(), key_file.read_bytes()) == (whole, marker, keys)
    assert tokenferry("token", "work").out == f"{KEY}\n"
    key_file.chmod(0o644)
    assert recall(["work"]) is None


def test_what_a_keyring_opens_is_not_recalled(sealed: str, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker.from_home(home)
    store = broker.book.store
    assert isinstance(store, AttachedStore)
    monkeypatch.setattr(store.seal, "where", lambda _: KeyPlace())
    document = store.read("work")
    with Dependencies() as dependencies:
        sealed_in = _sealed_in(store, document)
        assert sealed_in == (str(home.accounts / "work.json"), "")
        dependencies.remember(["work"], f"{KEY}\n", KEY, sealed=sealed_in)
    assert recall(["work"]) is None


def test_nothing_of_sealing_is_imported_where_nothing_is_sealed(home: Home) -> None:
    tokenferry("account", "add", "work", "--provider", "console", stdin='{"access_token": "abc"}')
    code = (
        "import sys; from tokenferry import resolve; print(resolve('work').secret.reveal()); "
        "print([name for name in ('cryptography', 'keyring', 'secretstorage') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert done.stdout == "abc\n[]\n"


def test_a_sealed_export_is_imported_again_and_not_without_the_key(
    sealed: str, home: Home, key_file: Path, tmp_path: Path
) -> None:
    file = tmp_path / "backups" / "work.json"
    file.parent.mkdir(mode=0o700)
    outcome = tokenferry("export", "work", "--to", "key-file", str(file), "--sealed")
    assert outcome.code == 0, outcome
    assert not shows(file.read_text(), KEY)
    assert file.stat().st_mode & 0o7777 == 0o600
    piped = tokenferry("export", "work", "--to", "env", "-", "--sealed", "--force")
    assert not shows(piped.out, KEY)
    assert tokenferry("account", "remove", "work", "--yes").code == 0
    assert tokenferry("import", str(file), "--name", "again", "--yes").code == 0
    assert tokenferry("token", "again").out == f"{KEY}\n"
    assert tokenferry("account", "remove", "again", "--yes").code == 0
    assert tokenferry("import", "-", "--name", "piped", "--yes", stdin=piped.out).code == 0
    assert tokenferry("token", "piped").out == f"{KEY}\n"
    for options in (("--to", "pool"), ("--to", "bundle", str(tmp_path / "x"), "--with-refresh-token")):
        assert tokenferry("export", "piped", *options, "--sealed").code == 2
    key_file.rename(key_file.with_name("away"))
    assert tokenferry("import", str(file), "--name", "more", "--yes").code == 6
