"""Which account Claude Code has: by request, and swapped when it is limited."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest

import tokenferry
from claude_code.rig import eventually
from leaks import leaks
from tokenferry.accounts import read_credential
from tokenferry.background_refresh import RenewalEvent, Renewer
from tokenferry.background_refresh._switch import ClaudeCodeSwitcher
from tokenferry.broker import Broker, interrupted_move, use_for_claude_code
from tokenferry.claude_code import ClaudeCodeHome
from tokenferry.claude_code.moves import Mover, Present
from tokenferry.config import load
from tokenferry.errors import CredentialRefused, NeedsLogin, PolicyRefused, TryLater, UnknownAccount, UsageError
from tokenferry.sandbox import Sandbox
from tokenferry.settings import Home
from tokenferry.state import Cooldown, Scope, State
from tokenferry.stores import Account, FileLock, MemoryStore

CONFIG: Final = """
[[providers]]
name = "claude-max"
base_url = "{url}"

[providers.oauth]
token_endpoint = "{url}/v1/oauth/token"

[[providers]]
name = "elsewhere"
base_url = "https://api.example.com"
auth_type = "oauth"

[providers.oauth]
token_endpoint = "https://api.example.com/token"
client_id = "somebody"

[policy]
subscriptions = "{policy}"
"""

Add: TypeAlias = Callable[..., None]


def configure(home: Home, url: str, policy: str) -> None:
    home.config.write_text(CONFIG.format(url=url, policy=policy))
    home.config.chmod(0o600)


@pytest.fixture
def sandbox(home: Home, tokenferry_sandbox: Sandbox) -> Sandbox:
    configure(home, tokenferry_sandbox.url, "own-use")
    return tokenferry_sandbox


@pytest.fixture
def broker(home: Home, sandbox: Sandbox) -> Broker:
    return Broker.from_home(home, load(home.config))


@pytest.fixture
def add(broker: Broker, sandbox: Sandbox) -> Add:
    def add(*names: str, expires_in: int = 28_800, priority: int = 100) -> None:
        for number, name in enumerate(names):
            login = sandbox.issue(name, expires_in=expires_in)
            account = Account(name, "claude-max", "oauth", priority=priority, created_at=1_700_000_000 + number)
            broker.add(account, read_credential(json.dumps(login).encode(), "oauth", "oauth"))

    return add


@pytest.fixture
def claude(home: Home) -> ClaudeCodeHome:
    return ClaudeCodeHome(Path(os.environ["HOME"]) / ".claude")


def has(claude: ClaudeCodeHome, broker: Broker) -> str | None:
    """The account that Claude Code has by our records, and by its own."""
    name = next((account.name for account in broker.book.listing().accounts if account.store == "claude-code"), None)
    if name is not None:
        token = broker.book.store.read(name).credential.secret.reveal()
        assert json.loads(claude.credentials.read_bytes())["claudeAiOauth"]["accessToken"] == token
        assert [one.name for one in broker.book.listing().accounts].count(name) == 1
    return name


def log_in(claude: ClaudeCodeHome, sandbox: Sandbox, name: str) -> None:
    """`claude /login`."""
    login = sandbox.issue(name, expires_in=28_800)
    claude.path.mkdir(mode=0o700, exist_ok=True)
    section = {key: login[name] for key, name in (("accessToken", "access_token"), ("refreshToken", "refresh_token"))}
    section |= {"expiresAt": login["expires_at"] * 1000, "scopes": login["scopes"], "subscriptionType": "max"}
    claude.credentials.write_text(json.dumps({"claudeAiOauth": section}))
    claude.credentials.chmod(0o600)


def marks(home: Home) -> dict[str, int | None]:
    with State(home.state) as state:
        return {one.scope.name: one.until for one in state.cooldowns.list()}


def mark(home: Home, name: str, until: int | None) -> None:
    with State(home.state) as state:
        state.cooldowns.put(Cooldown(Scope("account", name), "rate-limited", "test", until))


def swap(broker: Broker, reset_at: datetime | float | None = None) -> str:
    return tokenferry.swap_to_next_available_account(reset_at, broker)


# -- by request


def test_a_login_without_an_account_is_taken_for_the_vendors_whatever_takes_its_place(
    home: Home, broker: Broker, claude: ClaudeCodeHome, sandbox: Sandbox
) -> None:
    """Else its tokens would go to the other's host, and the policy would not know it."""
    log_in(claude, sandbox, "bob")
    login = read_credential(json.dumps(sandbox.issue("alice", expires_in=28_800)).encode(), "oauth", "oauth")
    broker.add(Account("trial", "sandbox", "oauth", created_at=1), login)
    assert use_for_claude_code("trial", broker).home == "claude-code"
    assert broker.book.read("claude-code").account.provider == "claude-max"
    careful = Broker(home=home, providers=broker.providers)
    with pytest.raises(PolicyRefused):
        careful.resolve("claude-code")


def test_a_login_is_given_to_claude_code_under_any_policy(
    home: Home, broker: Broker, add: Add, claude: ClaudeCodeHome, sandbox: Sandbox
) -> None:
    add("alice")
    configure(home, sandbox.url, "claude-code-only")
    careful = Broker.from_home(home, load(home.config))
    assert use_for_claude_code("alice", careful).name == "alice"
    assert has(claude, broker) == "alice"
    assert interrupted_move(home) is None
    with pytest.raises(PolicyRefused):
        careful.resolve("alice")
    assert broker.resolve("alice").secret.reveal() in claude.credentials.read_text()


def test_from_then_on_its_chain_is_renewed_in_claude_codes_place_alone(
    broker: Broker, add: Add, claude: ClaudeCodeHome, sandbox: Sandbox, home: Home
) -> None:
    add("alice", expires_in=-60)
    before = (home.accounts / "alice.json").read_bytes()
    use_for_claude_code("alice", broker)
    token = broker.resolve("alice")
    assert token.secret.reveal() in claude.credentials.read_text()
    assert (home.accounts / "alice.json").read_bytes() == before
    assert sandbox.counters()["accounts"]["alice"]["refreshes"] == 1
    add("bob")
    use_for_claude_code("bob", broker)
    assert broker.resolve("alice").secret == token.secret
    assert broker.refresh("alice").secret != token.secret
    counters = sandbox.counters()["accounts"]["alice"]
    assert (counters["refreshes"], counters["reuses"]) == (2, 0)


def test_the_folder_that_a_variable_names_is_meant_and_stays_the_accounts(
    broker: Broker, add: Add, claude: ClaudeCodeHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add("alice")
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / "other"))
    use_for_claude_code("alice", broker)
    other = ClaudeCodeHome(tmp_path / "other")
    assert has(other, broker) == "alice"
    assert not claude.credentials.exists()
    monkeypatch.delenv("CLAUDE_CONFIG_DIR")
    assert broker.resolve("alice").secret.reveal() in other.credentials.read_text()


@pytest.mark.parametrize(
    ("account", "credential", "refused"),
    [
        (Account("it", "anthropic", "api-key"), b"sk-ant-api03-something", (CredentialRefused, "tokenferry run")),
        (
            Account("it", "elsewhere", "oauth"),
            b'{"access_token": "one-secret", "refresh_token": "two-secret"}',
            (UsageError, "can't use as its own"),
        ),
    ],
)
def test_what_claude_code_could_not_use_is_refused(
    broker: Broker, claude: ClaudeCodeHome, account: Account, credential: bytes, refused: tuple[type[Exception], str]
) -> None:
    broker.add(account, read_credential(credential, account.kind, "oauth"))
    with pytest.raises(refused[0], match=refused[1]) as caught:
        use_for_claude_code("it", broker)
    assert leaks(caught.value, "sk-ant-api03-something", "one-secret", "two-secret") == []
    assert not claude.credentials.exists()


def test_an_account_that_is_not_there_or_a_store_of_another_kind_is_reported(broker: Broker, sandbox: Sandbox) -> None:
    with pytest.raises(UnknownAccount, match="'nobody'"):
        use_for_claude_code("nobody", broker)
    with pytest.raises(UsageError, match="home of files"):
        use_for_claude_code("nobody", Broker(store=MemoryStore(), policy=broker.policy))


# -- swapped


def test_the_limited_one_is_marked_and_the_next_one_takes_over(
    home: Home, broker: Broker, add: Add, claude: ClaudeCodeHome, sandbox: Sandbox
) -> None:
    add("alice", "bob", "carol")
    use_for_claude_code("alice", broker)
    reset_at = int(time.time()) + 3600
    assert swap(broker, reset_at) == "bob@example.com"
    assert has(claude, broker) == "bob"
    assert marks(home) == {"alice": reset_at}
    assert swap(broker, reset_at + 60) == "carol@example.com"
    assert marks(home) == {"alice": reset_at, "bob": reset_at + 60}
    assert sandbox.counters()["accounts"]["bob"]["refreshes"] == 0


def test_all_limited_is_reported_with_the_earliest_reset(
    home: Home, broker: Broker, add: Add, claude: ClaudeCodeHome, sandbox: Sandbox
) -> None:
    add("alice", "bob", "carol")
    use_for_claude_code("alice", broker)
    now = int(time.time())
    mark(home, "bob", now + 1790)
    mark(home, "carol", None)
    with pytest.raises(TryLater) as caught:
        swap(broker, now + 7200)
    moment = datetime.fromtimestamp(now + 1790, UTC)
    assert str(caught.value) == (
        f"All OAuth accounts are rate-limited. Earliest reset in 30 minute(s) (at {moment:%H:%M} UTC)."
    )
    assert 1700 < (caught.value.retry_after or 0) <= 1790
    assert has(claude, broker) == "alice"


def test_and_without_one_where_none_is_known(home: Home, broker: Broker, add: Add) -> None:
    add("alice", "bob")
    use_for_claude_code("alice", broker)
    mark(home, "bob", None)
    with pytest.raises(TryLater) as caught:
        swap(broker)
    assert str(caught.value) == "All OAuth accounts are rate-limited. No reset time available."
    assert marks(home) == {"alice": None, "bob": None}


def test_a_reset_that_has_passed_frees_an_account_but_those_without_a_mark_come_first(
    home: Home, broker: Broker, add: Add
) -> None:
    add("bob", priority=1)
    add("alice", priority=2)
    add("carol", priority=3)
    use_for_claude_code("alice", broker)
    mark(home, "bob", int(time.time()) - 5)
    later = int(time.time()) + 3600
    assert swap(broker, later) == "carol@example.com"
    assert swap(broker, later) == "bob@example.com"
    assert marks(home) == {"alice": later, "carol": later}, "who takes over loses its mark"


def test_it_works_where_claude_code_has_no_account(
    home: Home, broker: Broker, add: Add, claude: ClaudeCodeHome, sandbox: Sandbox
) -> None:
    add("alice", priority=9)
    add("bob")
    assert swap(broker, int(time.time()) + 60) == "alice@example.com"
    assert has(claude, broker) == "alice"
    assert marks(home) == {}


def test_a_login_that_was_none_of_ours_becomes_one_and_is_marked(
    home: Home, broker: Broker, add: Add, claude: ClaudeCodeHome, sandbox: Sandbox
) -> None:
    add("alice")
    log_in(claude, sandbox, "bob")
    reset_at = int(time.time()) + 60
    assert swap(broker, reset_at) == "alice@example.com"
    assert marks(home) == {"claude-code": reset_at}
    assert [account.name for account in broker.book.listing().accounts] == ["alice", "claude-code"]


def test_two_logins_of_one_account_are_limited_together(home: Home, broker: Broker, add: Add, sandbox: Sandbox) -> None:
    add("alice", "bob")
    for name in ("alice", "again"):
        issued = sandbox.issue("alice", expires_in=28_800) | {"account_uuid": "uuid-of-alice"}
        login = read_credential(json.dumps(issued).encode(), "oauth", "oauth")
        broker.add(Account(name, "claude-max", "oauth", priority=1), login, replacing=True)
    use_for_claude_code("alice", broker)
    reset_at = int(time.time()) + 60
    assert swap(broker, reset_at) == "bob@example.com"
    assert marks(home) == {"alice": reset_at, "again": reset_at}


@pytest.mark.parametrize("names", [(), ("alice",)])
def test_with_fewer_than_two_accounts_it_says_so(broker: Broker, add: Add, names: tuple[str, ...]) -> None:
    add(*names)
    if names:
        use_for_claude_code("alice", broker)
    with pytest.raises(UnknownAccount, match="fewer than 2 accounts"):
        swap(broker)


def test_keys_and_other_logins_are_no_candidates(home: Home, broker: Broker, add: Add) -> None:
    add("alice")
    broker.add(Account("key", "anthropic", "api-key"), read_credential(b"sk-ant-api03-x", "api-key", "oauth"))
    login = read_credential(b'{"access_token": "one", "refresh_token": "two"}', "oauth", "oauth")
    broker.add(Account("other", "elsewhere", "oauth"), login)
    with pytest.raises(UnknownAccount, match="fewer than 2 accounts"):
        swap(broker)


def test_one_that_is_about_used_up_is_renewed_first(
    broker: Broker, add: Add, claude: ClaudeCodeHome, sandbox: Sandbox
) -> None:
    add("alice")
    add("bob", expires_in=200)
    use_for_claude_code("alice", broker)
    assert swap(broker) == "bob@example.com"
    assert sandbox.counters()["accounts"]["bob"]["refreshes"] == 1
    assert json.loads(claude.credentials.read_bytes())["claudeAiOauth"]["expiresAt"] > (time.time() + 600) * 1000


def test_one_that_can_not_be_renewed_is_passed_over_with_its_reason(
    home: Home, broker: Broker, add: Add, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    add("alice")
    add("bob", expires_in=-60)
    add("carol", priority=200)
    use_for_claude_code("alice", broker)
    sandbox.revoke("bob", "family")
    assert swap(broker) == "carol@example.com"
    assert "passed over: account 'bob'" in caplog.text
    mark(home, "alice", int(time.time()) + 60)
    with pytest.raises(NeedsLogin, match=r"could take over: account 'bob'.*tokenferry login bob"):
        swap(broker)


def test_it_needs_the_policy_own(home: Home, add: Add, claude: ClaudeCodeHome, sandbox: Sandbox) -> None:
    add("alice", "bob")
    configure(home, sandbox.url, "claude-code-only")
    with pytest.raises(PolicyRefused, match='subscriptions = "own-use"') as caught:
        swap(Broker.from_home(home, load(home.config)))
    assert caught.value.exit_code == 7
    assert not claude.credentials.exists()


@pytest.mark.parametrize("unusable", [1_800_000_000_000, float("nan"), float("inf"), -1, "tomorrow"])
def test_a_reset_that_is_no_time_in_seconds_is_refused_and_marks_nothing(
    home: Home, broker: Broker, add: Add, unusable: Any
) -> None:
    add("alice", "bob")
    with pytest.raises(UsageError, match="a time must"):
        swap(broker, unusable)
    assert marks(home) == {}


@pytest.mark.parametrize("made", [float, datetime.fromtimestamp, lambda reset: datetime.fromtimestamp(reset, UTC)])
def test_a_reset_is_a_datetime_or_seconds_and_a_part_of_a_second_is_rounded_up(
    home: Home, broker: Broker, add: Add, made: Callable[[float], datetime | float]
) -> None:
    add("alice", "bob")
    use_for_claude_code("alice", broker)
    reset_at = int(time.time()) + 3600
    assert swap(broker, made(reset_at + 0.25)) == "bob@example.com"
    assert marks(home) == {"alice": reset_at + 1}


def test_of_two_threads_that_heard_of_one_limit_one_moves_and_the_other_sees_it(
    home: Home, broker: Broker, add: Add, claude: ClaudeCodeHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    add("alice", "bob", "carol")
    use_for_claude_code("alice", broker)
    reset_at, told, looks = int(time.time()) + 3600, list[str](), list[str | None]()
    take_in = Mover.take_in

    def noted(mover: Mover, *given: Any) -> Present:
        present = take_in(mover, *given)
        looks.append(present.name)
        return present

    monkeypatch.setattr(Mover, "take_in", noted)
    with FileLock(home.move_to_claude_code.with_name("swap"), home.locks).held(5):
        threads = [threading.Thread(target=lambda: told.append(swap(broker, reset_at))) for _ in range(2)]
        for thread in threads:
            thread.start()
        eventually(lambda: looks == ["alice", "alice"])
    for thread in threads:
        thread.join()
    assert told == ["bob@example.com"] * 2
    assert has(claude, broker) == "bob"
    assert marks(home) == {"alice": reset_at}


def test_processes_that_swap_at_once_leave_each_login_alive(
    home: Home, broker: Broker, add: Add, claude: ClaudeCodeHome, sandbox: Sandbox
) -> None:
    add("alice", "bob", "carol")
    use_for_claude_code("alice", broker)
    script = "import tokenferry; print(tokenferry.swap_to_next_available_account(1))"
    processes = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    told = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert {process.returncode for process in processes} == {0}
    assert f"{has(claude, broker)}@example.com" in told
    later = Broker.from_home(home, load(home.config))
    for name in ("alice", "bob", "carol"):
        if name != has(claude, broker):
            later.refresh(name)
    assert {
        name: sandbox.counters()["accounts"][name]["reuses"] for name in ("alice", "bob", "carol")
    } == dict.fromkeys(("alice", "bob", "carol"), 0)


def test_what_was_noted_of_an_account_goes_with_it(home: Home, broker: Broker, add: Add) -> None:
    add("alice")
    mark(home, "alice", None)
    broker.remove("alice")
    assert marks(home) == {}


def test_a_login_that_bills_no_subscription_never_takes_over(
    home: Home, broker: Broker, add: Add, claude: ClaudeCodeHome, sandbox: Sandbox
) -> None:
    """One of a provider on this machine may be given to Claude Code, but by somebody who means it."""
    add("alice")
    use_for_claude_code("alice", broker)
    login = read_credential(json.dumps(sandbox.issue("carol", expires_in=28_800)).encode(), "oauth", "oauth")
    broker.add(Account("trial", "sandbox", "oauth", created_at=1), login)
    with pytest.raises(UnknownAccount, match="fewer than 2 accounts"):
        swap(broker)


def test_what_comes_home_is_published_as_claude_code_renewed_it(
    home: Home, broker: Broker, add: Add, claude: ClaudeCodeHome, sandbox: Sandbox
) -> None:
    add("alice", "bob")
    profile = broker.publish("alice", "mine").credentials
    use_for_claude_code("alice", broker)
    log_in(claude, sandbox, "alice")
    renewed = json.loads(claude.credentials.read_bytes())["claudeAiOauth"]["accessToken"]
    assert use_for_claude_code("bob", broker).home == "alice"
    assert json.loads(profile.read_bytes())["access_token"] == renewed


# -- swapped by a renewer


class Kept:
    """A renewer that looks when it is told to."""

    def __init__(self, home: Home, broker: Broker) -> None:
        self.told: list[str] = []
        self.now = time.time()
        self.switcher = ClaudeCodeSwitcher(
            broker, home, tell=lambda text, account, *, needs_help: self.told.append(text)
        )
        self.switcher._now = lambda: self.now

    def look(self) -> list[str]:
        seen = len(self.told)
        self.switcher.look()
        return self.told[seen:]


@pytest.fixture
def kept(home: Home, broker: Broker) -> Iterator[Kept]:
    kept = Kept(home, broker)
    yield kept
    kept.switcher.close()


def test_a_renewer_switches_once_as_soon_as_any_process_records_a_limit(
    home: Home, broker: Broker, add: Add, claude: ClaudeCodeHome, kept: Kept
) -> None:
    add("alice", "bob", "carol")
    use_for_claude_code("alice", broker)
    assert kept.look() == []
    mark(home, "carol", int(time.time()) + 3600)
    assert kept.look() == []
    mark(home, "alice", int(time.time()) + 3600)
    assert kept.look() == ["account alice is limited, so Claude Code has bob@example.com now"]
    assert has(claude, broker) == "bob"
    eventually(lambda: "bob" in kept.switcher._present())
    assert kept.look() == []


def test_without_a_candidate_it_says_so_once_and_tries_again_when_there_is_one(
    home: Home, broker: Broker, add: Add, claude: ClaudeCodeHome, kept: Kept
) -> None:
    add("alice", "bob")
    use_for_claude_code("alice", broker)
    for name, seconds in (("alice", 3600), ("bob", 1800)):
        mark(home, name, int(time.time()) + seconds)
    (told,) = kept.look()
    assert told.startswith("account alice is limited, and Claude Code keeps it: All OAuth accounts are rate-limited.")
    assert kept.look() == []
    kept.now += 100
    assert kept.look() == []
    with State(home.state) as state:
        state.cooldowns.clear(Scope("account", "bob"))
    assert kept.look() == ["account alice is limited, so Claude Code has bob@example.com now"]


def test_what_limits_a_family_or_is_no_limit_swaps_nothing(
    home: Home, broker: Broker, add: Add, claude: ClaudeCodeHome, kept: Kept
) -> None:
    add("alice", "bob")
    use_for_claude_code("alice", broker)
    until = int(time.time()) + 3600
    with State(home.state) as state:
        state.cooldowns.put(Cooldown(Scope("account", "alice", "claude-opus"), "window", "answer", until))
        state.cooldowns.put(Cooldown(Scope("account", "alice"), "overage", "answer", until))
    assert kept.look() == []
    assert has(claude, broker) == "alice"


def test_a_keeper_asks_policy(home: Home, broker: Broker, add: Add, sandbox: Sandbox, claude: ClaudeCodeHome) -> None:
    add("alice", "bob")
    use_for_claude_code("alice", broker)
    configure(home, sandbox.url, "claude-code-only")
    careful = Kept(home, Broker.from_home(home, load(home.config)))
    mark(home, "alice", int(time.time()) + 3600)
    (told,) = careful.look()
    assert "Claude Code's account is not switched" in told
    assert careful.look() == []
    careful.switcher.close()
    assert has(claude, broker) == "alice"


def test_a_renewer_that_is_asked_to_looks_for_limits(
    home: Home, broker: Broker, add: Add, claude: ClaudeCodeHome
) -> None:
    add("alice", "bob")
    use_for_claude_code("alice", broker)
    mark(home, "alice", int(time.time()) + 3600)
    events: list[RenewalEvent] = []
    assert Renewer(broker, tell=events.append).once()
    assert has(claude, broker) == "alice"
    assert Renewer(broker, tell=events.append, swaps=True).once()
    assert has(claude, broker) == "bob"
    assert [event.kind for event in events] == ["switch"]
