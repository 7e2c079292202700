"""Which provider serves what nothing maps: decided once, by the first account that may serve, and kept."""

import itertools
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from effort import effort
from tokenferry.broker import Broker
from tokenferry.config import Config
from tokenferry.credentials import ApiKey, Credential, SetupToken
from tokenferry.errors import PolicyRefused, UnknownProvider
from tokenferry.providers import Provider
from tokenferry.readiness import ANYONE, resolver_of, serving_line
from tokenferry.routing import NoRoute, RoutePlan, RouteRequest
from tokenferry.secret import Secret
from tokenferry.settings import Home, ModelMapping, ModelSettings, PolicySettings, RouterSettings
from tokenferry.stores import Account

URL = "http://127.0.0.1:9"
PROVIDERS = {
    "one": Provider("one", "one", URL),
    "two": Provider("two", "two", URL),
    "max": Provider("max", "max", URL, subscription=True),
    "vendor": Provider("vendor", "anthropic", "https://api.anthropic.com"),
    "off": Provider("off", "off", URL, enabled=False),
}
KEY = ApiKey(Secret("a-key"))
AGES = itertools.count(1)


@pytest.fixture
def config() -> Config:
    return Config(providers=PROVIDERS)


@pytest.fixture
def broker(home: Home, config: Config) -> Broker:
    return Broker.from_home(home, config)


def add(broker: Broker, name: str, provider: str, credential: Credential = KEY) -> None:
    broker.add(Account(name, provider, credential.kind, created_at=next(AGES)), credential)


def plan(config: Config, broker: Broker) -> RoutePlan | NoRoute:
    """Of a model that nothing maps."""
    return resolver_of(config, broker).resolve(RouteRequest(), ANYONE)


def serving(config: Config, broker: Broker) -> dict[str, list[str]]:
    """The accounts of each provider that such a model may go to."""
    found = plan(config, broker)
    targets = () if isinstance(found, NoRoute) else found.targets
    return {one.group.provider: list(one.group.by_name) for one in targets}


def test_a_second_providers_account_takes_nothing_from_the_first(config: Config, broker: Broker) -> None:
    add(broker, "alice", "one")
    add(broker, "bob", "two")
    assert serving(config, broker) == {"one": ["alice"]}
    broker.set_default_provider("two")
    assert serving(config, broker) == {"two": ["bob"]}
    with pytest.raises(UnknownProvider):
        broker.set_default_provider("nosuch")


def test_a_default_provider_that_the_operator_chose_stays_without_an_account(config: Config, broker: Broker) -> None:
    add(broker, "alice", "one")
    add(broker, "bob", "two")
    broker.set_default_provider("one")
    assert broker.remove("alice") is None
    found = plan(config, broker)
    assert isinstance(found, NoRoute)
    assert found.message == (
        "the default provider one has no account; add one with: tokenferry account add NAME --provider one; or make "
        "another provider the default with: tokenferry use NAME --default-provider"
    )


def test_without_its_last_account_a_provider_is_the_default_no_longer(config: Config, broker: Broker) -> None:
    add(broker, "alice", "one")
    add(broker, "carol", "one")
    add(broker, "bob", "two")
    assert broker.remove("alice") is None
    assert serving(config, broker) == {"one": ["carol"]}
    assert broker.remove("carol") == "two"
    assert serving(config, broker) == {"two": ["bob"]}
    add(broker, "alice", "one")
    assert serving(config, broker) == {"two": ["bob"]}, "an account that is added changes nothing"
    assert broker.remove("bob") == "one"


def test_in_a_home_without_accounts_the_next_one_decides_again(config: Config, broker: Broker) -> None:
    add(broker, "alice", "one")
    assert broker.remove("alice") is None
    add(broker, "bob", "two")
    assert serving(config, broker) == {"two": ["bob"]}


def test_a_record_that_cannot_be_removed_prevents_no_removal(
    home: Home, config: Config, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(broker, "alice", "one")
    add(broker, "bob", "two")

    def fail(path: Path, **_: object) -> None:
        raise PermissionError(path)

    unlink = Path.unlink
    monkeypatch.setattr(
        Path, "unlink", lambda path, **how: (fail if path == home.default_provider else unlink)(path, **how)
    )
    assert broker.remove("alice") is None
    assert [account.name for account in broker.accounts()] == ["bob"]


def test_an_account_that_cannot_be_read_may_be_the_default_providers(
    home: Home, config: Config, broker: Broker
) -> None:
    for name, provider in (("alice", "one"), ("carol", "one"), ("bob", "two")):
        add(broker, name, provider)
    (document,) = home.accounts.glob("carol*")
    document.write_text("{")
    assert broker.remove("alice") is None
    assert broker.default_provider() == "one"


@pytest.mark.parametrize("first", ["max", "off"])
def test_an_account_that_may_not_serve_decides_nothing(config: Config, broker: Broker, first: str) -> None:
    add(broker, "mine", first)
    assert broker.book.default_provider() is None
    add(broker, "alice", "one")
    assert broker.book.default_provider() == "one"
    broker.adopt(replace(config, policy=PolicySettings("own-use")))
    assert serving(config, broker) == {"one": ["alice"]}


def test_a_home_without_a_record_goes_by_its_oldest_account_and_records_it_at_the_next_write(
    home: Home, config: Config, broker: Broker
) -> None:
    for name, provider in (("zoe", "two"), ("alice", "one")):
        add(broker, name, provider)
    home.default_provider.unlink()
    assert Broker.from_home(home, config).default_provider() == "two"
    assert not home.default_provider.exists()
    broker.remove("alice")
    assert home.default_provider.read_text() == "two\n"


def test_where_policy_refuses_every_account_the_refusal_is_what_a_client_reads(config: Config, broker: Broker) -> None:
    add(broker, "mine", "max")
    assert serving(config, broker) == {"max": ["mine"]}, "resolving it says that policy refuses it"


def test_a_key_of_the_environment_goes_on_serving_when_another_provider_gets_an_account(
    home: Home, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-api03-" + "x" * 40)
    config = replace(config, providers={**PROVIDERS, "anthropic": Provider("anthropic", "anthropic", URL)})
    broker = Broker.from_home(home, config)
    broker.record_default_provider(environment=True)  # as `serve` does
    before = serving(config, broker)
    assert list(before) == ["anthropic"]
    add(broker, "bob", "two")
    assert serving(config, broker) == before


def test_a_key_of_the_environment_that_never_served_decides_nothing(
    home: Home, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-api03-" + "x" * 40)
    broker = Broker.from_home(home, config)
    add(broker, "bob", "two")
    assert serving(config, broker) == {"two": ["bob"]}


def test_a_record_that_others_can_write_lets_no_provider_serve_in_its_place(
    home: Home, config: Config, broker: Broker
) -> None:
    add(broker, "alice", "one")
    add(broker, "bob", "two")
    home.default_provider.chmod(0o666)
    found = plan(config, broker)
    assert isinstance(found, NoRoute)
    assert "tokenferry doctor" in found.message


@pytest.mark.parametrize(("first", "second"), [("chat", "slashed"), ("slashed", "chat")])
def test_of_names_with_slashes_a_provider_that_is_added_takes_none(home: Home, first: str, second: str) -> None:
    """`chat/m` goes on to where it went, whichever of the two was there before."""
    providers = {
        "chat": Provider("chat", "chat", URL, wire_format="openai"),
        "slashed": Provider("slashed", "slashed", URL, slash_names=True),
        "one": Provider("one", "one", URL),
    }
    config = Config(providers=providers)
    broker = Broker.from_home(home, config)
    add(broker, "a", first)
    before = named(config, broker)
    assert before == ("chat", "m") if first == "chat" else before == ("slashed", "chat/m")
    add(broker, "b", second)
    assert named(config, broker) == before
    add(broker, "c", "one")
    assert named(config, broker) == before


def named(config: Config, broker: Broker) -> tuple[str, str]:
    found = resolver_of(config, broker).resolve_model("chat/m", ANYONE)
    assert isinstance(found, RoutePlan)
    return found.targets[0].group.provider, found.targets[0].model


def test_what_the_gateway_does_with_an_account_is_said_in_one_line(home: Home, config: Config, broker: Broker) -> None:
    for name, provider in (("alice", "one"), ("carol", "one"), ("bob", "two"), ("mine", "max"), ("out", "off")):
        add(broker, name, provider)
    mapped = replace(config, models=(ModelSettings("glm", (ModelMapping("two", "glm-5"),)),))
    pinned = replace(config, router=RouterSettings(account="carol"))
    assert serving_line(config, broker, "carol") == (
        "serves as 2 of 2 at one; account alice has the same api-key, so a limit of one is one of both"
    )
    assert serving_line(mapped, broker, "bob") == "serves glm as 1 of 1 at two"
    assert serving_line(config, broker, "bob") == (
        "serves nothing yet: map a model to it with: tokenferry model add NAME two/MODEL, or ask for "
        "two/MODEL; other models go to the default provider, one, until you make two the default with: "
        "tokenferry use bob --default-provider"
    )
    providers = {**config.providers, "one": replace(config.providers["one"], slash_names=True)}
    slashed = replace(config, providers=providers)
    assert "(two/MODEL alone goes to one, as before" in serving_line(slashed, Broker.from_home(home, slashed), "bob")
    assert serving_line(config, broker, "out") == "serves nothing yet: provider off is not enabled; see [[providers]]"
    assert serving_line(pinned, broker, "carol").startswith("serves alone at one; account alice has the same")
    assert serving_line(pinned, broker, "alice") == "serves nothing yet: [router] account = carol serves everything"
    assert "tokenferry policy show" in serving_line(config, broker, "mine")


NAMES = ("alice", "bob", "carol")
Operation = Callable[[Broker], None]
added = st.tuples(st.just("add"), st.sampled_from(NAMES), st.sampled_from(sorted(PROVIDERS)), st.booleans())
removed = st.tuples(st.just("remove"), st.sampled_from(NAMES))
changed = st.tuples(st.just("policy"), st.sampled_from(["claude-code-only", "own-use"]))
switched = st.tuples(st.just("switch"), st.sampled_from(["one", "two"]))
operations = st.lists(st.one_of(added, added, removed, changed, switched), max_size=10)


@settings(max_examples=effort(60), suppress_health_check=list(HealthCheck))
@given(operations)
def test_unmapped_models_reach_a_second_provider_only_once_the_first_has_no_account_and_adding_takes_nothing_away(
    tmp_path: Path, done: list[tuple[object, ...]]
) -> None:
    home = Home(tmp_path / os.urandom(4).hex())
    config = Config(providers=PROVIDERS)
    broker = Broker.from_home(home, config)
    reached: set[str] = set()
    for operation in done:
        before = served(config, broker)
        present = {account.name for account in broker.accounts()}
        match operation:
            case ("add", str(name), str(provider), bool(is_token)) if name not in present:
                add(broker, name, provider, SetupToken(Secret("sk-ant-oat01-" + "x" * 80)) if is_token else KEY)
                after = served(config, broker)
                assert all(set(names) <= set(after.get(provider, ())) for provider, names in before.items())
            case ("remove", str(name)) if name in present:
                broker.remove(name)
                if not {account.provider for account in broker.accounts()} & reached:
                    reached = set()
            case ("policy", "claude-code-only" | "own-use" as policy):
                broker.record_default_provider()  # as the commands do that change a configuration
                config = replace(config, policy=PolicySettings(policy))
                broker.adopt(config)
            case ("switch", str(provider)):
                broker.record_default_provider()
                now = {**config.providers}
                now[provider] = replace(now[provider], enabled=not now[provider].enabled)
                config = replace(config, providers=now)
                broker.adopt(config)
        reached |= served(config, broker).keys()
        assert len(reached) <= 1


def served(config: Config, broker: Broker) -> dict[str, list[str]]:
    """The same, as far as policy lets it be used."""
    found = {
        provider: [*filter(partial(is_free, broker), names)] for provider, names in serving(config, broker).items()
    }
    return {provider: names for provider, names in found.items() if names}


def is_free(broker: Broker, name: str) -> bool:
    try:
        broker.check_policy(broker.book.read(name))
    except PolicyRefused:
        return False
    return True
