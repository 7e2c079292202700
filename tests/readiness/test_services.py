"""What requests get now, by policy, states, limits and configuration."""

import itertools
import time
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from tokenferry.accounts import AccountChanges
from tokenferry.broker import Broker
from tokenferry.config import Config
from tokenferry.credentials import ApiKey, OAuthToken
from tokenferry.providers import Provider
from tokenferry.readiness import ANYONE, ServiceStatus, expects_service, misnamed, services
from tokenferry.refresh import RefreshFailure
from tokenferry.secret import Secret
from tokenferry.settings import (
    AccountSettings,
    Home,
    ModelMapping,
    ModelSettings,
    PoolSettings,
    RouterSettings,
    RuleSettings,
)
from tokenferry.state import ClientKey, Cooldown, Rights, Scope, State
from tokenferry.stores import Account

URL = "http://127.0.0.1:9"
PROVIDERS = {
    "one": Provider("one", "one", URL),
    "two": Provider("two", "two", URL),
    "max": Provider("max", "max", URL, subscription=True),
}
CONFIG = Config(providers=PROVIDERS)
FOREVER = 4_000_000_000
AGES = itertools.count(1)

Look = Callable[..., list[ServiceStatus]]


@pytest.fixture
def state(home: Home) -> State:
    return State(home.state)


def add(home: Home, **providers: str) -> Broker:
    broker = Broker.from_home(home, CONFIG)
    for name, provider in providers.items():
        broker.add(Account(name, provider, "api-key", created_at=next(AGES)), ApiKey(Secret("a-key")))
    return broker


def login(expires_at: int | None = FOREVER) -> OAuthToken:
    return OAuthToken(Secret("a-token"), Secret("a-refresh-token"), expires_at=expires_at)


def summary(found: list[ServiceStatus]) -> list[tuple[str | None, int, str | None]]:
    return [(one.model, one.status, one.account) for one in found]


def limit(state: State, name: str, family: str = "") -> None:
    state.cooldowns.put(Cooldown(Scope("account", name, family), "window", "answer", FOREVER, "It is limited."))


def test_what_serves_is_named_with_its_account(home: Home, state: State) -> None:
    with state:
        assert summary(services(CONFIG, add(home, alice="one"), state, {})) == [(None, 200, "alice")]


def test_an_account_that_policy_refuses_is_a_403(home: Home, state: State) -> None:
    with state:
        (one,) = services(CONFIG, add(home, mine="max"), state, {})
    assert (one.status, one.account) == (403, None)
    assert "tokenferry policy show" in one.reason


@pytest.mark.parametrize("word", ["needs-login", "copied", "uncertain", "locked", "broken"])
def test_an_account_that_needs_a_person_is_a_503_and_the_next_one_serves(home: Home, state: State, word: str) -> None:
    with state:
        broker = add(home)
        broker.add(Account("alice", "one", "oauth", created_at=next(AGES)), login(expires_at=1))
        (one,) = services(CONFIG, broker, state, {"alice": word})
        assert (one.status, one.reason) == (503, f"alice: its state is {word}")
        broker = add(home, carol="one")
        assert summary(services(CONFIG, broker, state, {"alice": word})) == [(None, 200, "carol")]


@pytest.mark.parametrize("word", ["needs-login", "copied", "refused", "uncertain"])
def test_a_token_that_lives_serves_in_any_state_unless_it_was_refused(home: Home, state: State, word: str) -> None:
    with state:
        broker, token = add(home), login()
        broker.add(Account("alice", "one", "oauth", created_at=next(AGES)), token)
        assert summary(services(CONFIG, broker, state, {"alice": word})) == [(None, 200, "alice")]
        assert token.refresh is not None
        failure = RefreshFailure("needs-login", token.refresh.sha256, 1.0, "dead", refused=token.secret.sha256)
        broker.journal.record_failure("alice", failure)
        assert summary(services(CONFIG, broker, state, {"alice": word})) == [(None, 503, None)]


def test_a_key_that_is_too_old_serves_nothing(home: Home, state: State) -> None:
    with state:
        broker = add(home)
        key = ApiKey(Secret("a-key"), obtained_at=int(time.time()) - 9000)
        broker.add(Account("alice", "one", "api-key", created_at=next(AGES)), key)
        broker.amend("alice", AccountChanges(max_age=3600))
        (one,) = services(CONFIG, broker, state, {"alice": "needs-login"})
        assert (one.status, one.reason) == (503, "alice: its state is needs-login")


def test_limits_of_all_accounts_are_a_429_and_those_of_a_family_are_its_own(home: Home, state: State) -> None:
    with state:
        broker = add(home, alice="one")
        limit(state, "alice", "claude-opus")
        assert summary(services(CONFIG, broker, state, {})) == [(None, 200, "alice"), ("claude-opus", 429, None)]
        limit(state, "alice")
        assert [one.status for one in services(CONFIG, broker, state, {})] == [429, 429]


def test_what_waiting_does_not_help_is_a_503(home: Home, state: State) -> None:
    with state:
        broker = add(home, alice="one", carol="one")
        for name in ("alice", "carol"):
            refused = Cooldown(Scope("account", name), "refused", "answer", None, "Its key was refused.")
            state.cooldowns.put(refused)
        assert summary(services(CONFIG, broker, state, {})) == [(None, 503, None)]
        state.cooldowns.clear(Scope("account", "carol"))
        limit(state, "carol")
        assert summary(services(CONFIG, broker, state, {})) == [(None, 429, None)]


def test_every_model_that_the_configuration_names_is_looked_at(home: Home, state: State) -> None:
    config = replace(
        CONFIG,
        models=(ModelSettings("glm", (ModelMapping("two", "glm-5"),)),),
        router=RouterSettings(background="small"),
    )
    with state:
        broker = add(home, alice="one")
        found = services(config, broker, state, {})
        assert summary(found) == [(None, 200, "alice"), ("glm", 503, None), ("small", 200, "alice")]
        assert "tokenferry account add NAME --provider two" in found[1].reason
        refusing = replace(config, router=RouterSettings(unmapped="reject"))
        assert [one.model for one in services(refusing, broker, state, {})] == ["glm"]


def test_a_key_learns_of_its_own_accounts_alone(home: Home, state: State) -> None:
    key = replace(ANYONE, name="guest", rights=Rights(pin="gone", models=("claude-*",)))
    config = replace(CONFIG, models=(ModelSettings("claude-x", (ModelMapping("one", "x"),)),))
    with state:
        (one,) = services(config, add(home, alice="one"), state, {}, key)
    assert (one.model, one.status) == ("claude-x", 503)
    assert "alice" not in one.reason


def test_names_that_nothing_here_has_are_found(home: Home) -> None:
    providers = {**PROVIDERS, "one": replace(PROVIDERS["one"], accounts=("alice", "x"))}
    config = Config(
        providers=providers,
        pool=PoolSettings(accounts={"alice": AccountSettings(), "nosuch": AccountSettings()}),
        router=RouterSettings(account="typo", rules=(RuleSettings("r", "m", keys=("guest", "nobody")),)),
    )
    key = ClientKey("i", "guest", role="client", created_at=0, fingerprint="f", rights=Rights(pin="removed"))
    found = [*misnamed(config, add(home, alice="one"), [key])]
    assert [one.where for one in found] == [
        "router.account",
        "providers.one.accounts",
        "accounts.nosuch",
        "router.rules.r.keys",
        "client key guest",
    ]
    assert [one.is_configured for one in found] == [True, True, True, True, False]
    assert found[-1].what == "is pinned to account 'removed', which does not exist"
    assert [one.where for one in misnamed(config, Broker.from_home(Home(home.path / "new"), config), None)] == []


def test_service_is_expected_by_a_gateway_a_clients_key_or_a_configuration() -> None:
    guest = replace(ANYONE, id="i", name="guest")
    assert not expects_service(CONFIG, [ANYONE, replace(guest, role="admin")], runs=False)
    assert expects_service(CONFIG, [], runs=True)
    assert expects_service(CONFIG, [guest], runs=False)
    assert expects_service(replace(CONFIG, router=RouterSettings(account="a")), [], runs=False)
