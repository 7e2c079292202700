"""A whole home as an earlier version wrote it (tests/fixtures/home-75caf20, made by make.sh) is read as it was."""

import json
import tarfile
from pathlib import Path

import pytest

from tokenferry.audit import note_change
from tokenferry.broker import Broker
from tokenferry.cli._run import run
from tokenferry.credentials import FederatedToken, OAuthToken
from tokenferry.policy_statement import stated_at
from tokenferry.refresh import FileJournal
from tokenferry.sealing import Marker
from tokenferry.secret import Secret
from tokenferry.settings import Home
from tokenferry.state import State, read_local_key
from tokenferry.stores import Seal

FOLDER = Path(__file__).parent / "fixtures" / "home-75caf20"
AT = 1_790_000_000
LATE = 4_102_440_000
KINDS = {
    "key": "api-key",
    "setup": "setup-token",
    "fake": "api-key",
    "login": "oauth",
    "open": "oauth",
    "answered": "oauth",
    "dead": "oauth",
    "workload": "federated",
    "theirs": "oauth",
}
THEIRS = {
    "accessToken": "sk-ant-oat01-theirs",
    "refreshToken": "sk-ant-ort01-theirs",
    "expiresAt": LATE * 1000,
    "scopes": ["user:inference"],
}
CONFIG = '[router]\nproviders = ["fake"]\n[[providers]]\nname = "fake"\nbase_url = "http://127.0.0.1:9"\n'


@pytest.fixture(params=["clear", "sealed"])
def old(request: pytest.FixtureRequest, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """The home where the configuration has today's keys, and the sealing key's file is elsewhere."""
    with tarfile.open(FOLDER / f"{request.param}.tar.gz") as archive:
        archive.extraction_filter = getattr(tarfile, "tar_filter", None)  # from 3.11.4 on
        archive.extractall(tmp_path / "old")
    home.path.rmdir()
    (tmp_path / "old" / "home").rename(home.path)
    if request.param == "sealed":
        (home.path / "stick-key").rename(tmp_path / "stick-key")
        monkeypatch.setenv("TOKENFERRY_SEAL_KEY_FILE", str(tmp_path / "stick-key"))
    home.config.write_text(CONFIG)
    theirs, claude = home.attached / "theirs.json", tmp_path / ".claude"
    fields = json.loads(theirs.read_bytes())
    fields["labels"]["config_dir"] = str(claude)
    theirs.write_text(json.dumps(fields))
    claude.mkdir(mode=0o700)
    (claude / ".credentials.json").write_text(json.dumps({"claudeAiOauth": THEIRS}))
    (claude / ".credentials.json").chmod(0o600)
    return home


@pytest.fixture
def broker(old: Home) -> Broker:
    return Broker.from_home(old)


def test_its_accounts_and_credentials_are_there(old: Home, broker: Broker) -> None:
    listing = broker.book.listing()
    assert {account.name: account.kind for account in listing.accounts} == KINDS
    assert not listing.broken
    assert broker.book.active() == "login"
    assert {account.name: account.owner for account in listing.accounts}["theirs"] == "claude-code"
    for name in ("login", "open", "answered", "dead"):
        token = broker.book.read(name).credential
        assert isinstance(token, OAuthToken)
        assert token.refresh is not None
        assert token.secret.reveal() == f"sk-ant-oat01-access-{name}"
        assert token.refresh.reveal() == f"sk-ant-ort01-refresh-{name}"
        assert (token.expires_at, token.scopes) == (LATE, ("user:inference", "user:profile"))
    workload = broker.book.read("workload").credential
    assert isinstance(workload, FederatedToken)
    assert workload.federation.file == "/run/identity-token"
    assert dict(workload.federation.parameters) == {"federation_rule_id": "fdrl_1"}
    assert broker.book.read("fake").credential.secret.reveal() == "key-of-fake"


def test_its_attempts_and_failures_are_there(old: Home) -> None:
    journal = FileJournal(old.journal)
    for name in ("open", "answered"):
        attempt = journal.attempt(name)
        assert attempt is not None
        assert (attempt.state, attempt.at, attempt.tries) == ("open", AT, 1)
        assert attempt.token == Secret(f"sk-ant-ort01-refresh-{name}").sha256
        assert (attempt.answer is None) == (name == "open")
        if attempt.answer is not None:
            assert attempt.answer.secret.reveal() == "sk-ant-oat01-renewed"
            assert attempt.answer.refresh == Secret("sk-ant-ort01-renewed")
    failure = journal.failure("dead")
    assert failure is not None
    assert (failure.kind, failure.token) == ("needs-login", Secret("sk-ant-ort01-refresh-dead").sha256)
    assert journal.totals("login") == {"granted": 1}


def test_what_it_knows_besides_is_there(old: Home) -> None:
    with State(old.state) as state:
        keys = {key.name: key for key in state.keys.list()}
        assert {name: key.role for name, key in keys.items() if key.revoked_at is None} == {
            "guest": "client",
            "boss": "admin",
            "local": "client",
        }
        assert keys["gone"].revoked_at is not None
        assert (keys["guest"].rights.models, keys["guest"].rights.accounts) == (("claude-*",), ("key",))
        assert dict(keys["guest"].labels) == {"team": "research"}
        assert keys["guest"].expires_at is not None
        local = read_local_key(old)
        assert local is not None
        assert state.keys.verify(local.reveal()) == keys["local"]
        assert [(one.scope.name, one.scope.family, one.cause, one.until) for one in state.cooldowns.list()] == [
            ("key", "claude-opus", "window", LATE),
            ("org_1", "", "spend-limit", None),
        ]
        decision = state.decisions.get("tf_old")
        assert decision is not None
        assert (decision.at, decision.content["rule"]) == (AT, "default")
        assert state.decisions.last_account_of("s") == "key"
        assert state.organizations.all() == {"key": "org_1"}
    assert stated_at(old.statement) == AT


def test_its_publications_are_there(old: Home, broker: Broker) -> None:
    (published,) = broker.publisher.published()
    assert (published.publication.profile, published.publication.account) == ("setup", "setup")


def test_its_records_go_on(old: Home) -> None:
    before = old.audit.read_bytes()
    note_change(old, "key.create", "new")
    assert old.audit.read_bytes().startswith(before)
    actions = [json.loads(line)["action"] for line in old.audit.read_text().splitlines()]
    assert (actions[0], actions[-1], len(actions)) == ("account.add", "key.create", before.count(b"\n") + 1)


@pytest.mark.parametrize("old", ["sealed"], indirect=True)
def test_its_seal_is_taken_and_signed(old: Home, broker: Broker) -> None:
    marker = Seal(old).checked()
    assert marker is not None
    assert not marker.is_opening
    signed = Marker.from_bytes(old.seal.read_bytes())
    assert signed is not None
    assert signed.tags


@pytest.mark.parametrize(
    "command", [["account", "list"], ["status"], ["key", "list"], ["cooldown", "list"], ["doctor"]]
)
def test_commands_show_it(old: Home, command: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert run(command) in {0, 1}
    assert "defect" not in capfd.readouterr().err
