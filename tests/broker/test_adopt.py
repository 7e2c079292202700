"""A broker that goes by another configuration from one moment to the next."""

from pathlib import Path

import pytest

from tokenferry.broker import Broker
from tokenferry.config import Config
from tokenferry.credentials import ApiKey, OAuthToken
from tokenferry.errors import PolicyRefused, UnknownAccount, UnknownProvider
from tokenferry.providers import Provider, builtin_providers
from tokenferry.secret import Secret
from tokenferry.settings import Home, PolicySettings
from tokenferry.stores import Account

IDP = Provider(name="idp", provider_type="idp", base_url="https://x.example")


def config(key: str | None = None, *, own: bool = False, idp: Provider = IDP) -> Config:
    return Config(
        policy=PolicySettings("own-use" if own else "claude-code-only"),
        providers={"idp": idp, **builtin_providers()},
        keys={} if key is None else {"idp": ApiKey(Secret(key))},
    )


@pytest.fixture
def broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Broker:
    for variable in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    return Broker.from_home(Home(tmp_path / "home"), config("first-key", own=True))


def test_a_warm_key_gives_way_to_the_new_one_at_once(broker: Broker) -> None:
    assert broker.resolve("idp").secret.reveal() == "first-key"
    broker.adopt(config("second-key"))
    assert broker.resolve("idp").secret.reveal() == "second-key"


def test_accounts_come_and_go_without_a_look_at_the_disk(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    broker.add(Account("work", "anthropic", "api-key"), ApiKey(Secret("sk-ant-api03-aaaaaaaa")))
    assert {one.name for one in broker.accounts()} == {"work", "idp"}
    monkeypatch.setattr(broker.book.store, "names", lambda: pytest.fail("it looked"))
    broker.adopt(config())
    assert [one.name for one in broker.accounts()] == ["work"]
    broker.adopt(config("third-key"))
    assert {one.name for one in broker.accounts()} == {"work", "idp"}
    monkeypatch.undo()
    broker.adopt(config())
    with pytest.raises(UnknownAccount):
        broker.resolve("idp")


def test_a_policy_that_is_taken_back_counts_for_what_was_warm(broker: Broker) -> None:
    token = OAuthToken(Secret("sk-ant-oat01-aaaaaaaa"), expires_at=4_000_000_000)
    broker.add(Account("mine", "claude-max", "oauth"), token)
    assert broker.resolve("mine").secret == token.secret
    broker.adopt(config())
    with pytest.raises(PolicyRefused):
        broker.resolve("mine")
    broker.adopt(config(own=True))
    assert broker.resolve("mine").secret == token.secret


def test_providers_are_those_of_one_configuration(broker: Broker) -> None:
    before = broker.providers
    broker.adopt(config("k", idp=Provider(name="idp", provider_type="idp", base_url="https://y.example")))
    assert broker.providers is not before
    assert broker.provider_of(Account("idp", "idp", "api-key")).base_url == "https://y.example"
    broker.adopt(Config())
    with pytest.raises(UnknownProvider):
        broker.provider_of(Account("idp", "idp", "api-key"))
