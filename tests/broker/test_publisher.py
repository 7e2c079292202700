"""A published account: whatever renews it rewrites its profile, and nothing about profiles harms a grant."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from anthropic.lib.credentials import CredentialsFile

from refresh.rig import NAME, PATIENCE, PROVIDERS, START, Rig, answer, put, token, value, wait_for
from tokenferry.accounts import CONFIGURATION, Publication
from tokenferry.broker import Broker
from tokenferry.credentials import ApiKey
from tokenferry.errors import (
    ConfigError,
    Conflict,
    NeedsLogin,
    PolicyRefused,
    RefreshFailed,
    UnknownAccount,
    UnknownName,
    UsageError,
)
from tokenferry.providers import Provider
from tokenferry.secret import Secret
from tokenferry.settings import Home, PolicySettings
from tokenferry.state import local_key
from tokenferry.stores import Account, Document, FileLock, MemoryStore

SUBSCRIPTION = {"fake": Provider("fake", "fake", "https://auth.invalid", auth_type="oauth", subscription=True)}


@pytest.fixture
def rig(home: Home) -> Iterator[Rig]:
    rig = Rig(home)
    yield rig
    rig.close()


@pytest.fixture
def published(rig: Rig) -> Publication:
    """The account, published with a living token."""
    rig.put(token(left=3600))
    return rig.broker().publish(NAME)


def sdk_token(profile: str = NAME) -> str:
    provider = CredentialsFile(profile)
    try:
        return provider().token
    finally:
        provider.close()


def state(broker: Broker) -> str:
    [one] = broker.publisher.published()
    return one.standing.state


# -- publishing


def test_it_is_renewed_first_where_that_is_due_and_called_like_its_account(rig: Rig) -> None:
    rig.put(token())
    new = rig.broker().publish()
    assert (new.profile, new.account) == (NAME, NAME)
    assert sdk_token() == "access-1"
    assert rig.endpoint.requests == 1


def test_the_profile_leads_to_the_providers_host_and_tells_the_true_expiry(rig: Rig) -> None:
    rig.put(token(left=3600))
    broker = rig.broker()
    broker.publish(NAME, "other")
    [one] = broker.publisher.published()
    assert one.publication.base_url == "https://auth.invalid"
    assert CredentialsFile("other").resolved_base_url == "https://auth.invalid"
    assert one.expires_at == CredentialsFile("other")().expires_at == START + 3600
    assert one.fingerprint == Secret("access-0").fingerprint


def test_a_subscription_is_published_under_policy_own_alone(rig: Rig) -> None:
    rig.put(token(left=3600))
    with pytest.raises(PolicyRefused):
        rig.broker(providers=SUBSCRIPTION).publish(NAME)
    assert not rig.home.published.exists()
    own = rig.broker(providers=SUBSCRIPTION, policy=PolicySettings(subscriptions="own-use"))
    own.publish(NAME)
    rig.put(token(left=3600, number=5))
    off = rig.broker(providers=SUBSCRIPTION)
    [one] = off.republish()
    assert one.standing.state == "held"
    assert "billed to a Claude subscription" in one.standing.text
    assert sdk_token() == "access-0"
    assert [one.standing.state for one in own.republish()] == ["current"]
    assert sdk_token() == "access-5"


def test_an_api_key_is_refused(rig: Rig) -> None:
    put(rig.store, Document(Account(NAME, "fake", "api-key"), ApiKey(Secret("sk-key"))))
    with pytest.raises(UsageError, match="holds an API key"):
        rig.broker().publish(NAME)


def test_an_account_of_the_configuration_is_refused(rig: Rig) -> None:
    implicit = {NAME: Document(Account(NAME, "fake", "oauth", store=CONFIGURATION), token(left=3600))}
    with pytest.raises(UsageError, match="comes from the config"):
        rig.broker(implicit=implicit).publish(NAME)


def test_without_a_home_there_is_nothing_to_publish_from() -> None:
    store = MemoryStore(Document(Account(NAME, "fake", "oauth"), token(left=None)))
    broker = Broker(store=store, providers=PROVIDERS)
    with pytest.raises(UsageError, match="home of files"):
        broker.publish(NAME)
    assert broker.republish() == []
    assert broker.publisher.published() == []
    assert value(broker.resolve(NAME)) == "access-0"
    broker.remove(NAME)


def test_a_login_that_is_dead_publishes_nothing(rig: Rig) -> None:
    rig.put(token(refresh=None))
    with pytest.raises(NeedsLogin):
        rig.broker().publish(NAME)
    assert not rig.home.published.exists()


# -- renewing


def test_every_grant_rewrites_the_profile(rig: Rig, published: Publication) -> None:
    broker = rig.broker()
    broker.refresh(NAME)
    assert broker.drain(PATIENCE)
    assert sdk_token() == "access-1"
    rig.put(token())
    asyncio.run(rig.broker().aresolve(NAME))
    wait_for(lambda: sdk_token() == "access-2")


def test_drain_waits_for_the_profile(rig: Rig, published: Publication) -> None:
    broker = rig.broker()
    with FileLock(published.config, rig.home.locks).held(1.0):
        broker.refresh(NAME)  # those who wait for the token aren't held up
        assert not broker.drain(0.0)
        assert sdk_token() == "access-0"
    assert broker.drain(PATIENCE)
    assert sdk_token() == "access-1"


def test_a_new_login_rewrites_it(rig: Rig, published: Publication) -> None:
    rig.broker().add(Account(NAME, "fake", "oauth"), token(left=3600, number=8), replacing=True)
    assert sdk_token() == "access-8"


def test_a_new_login_with_an_api_key_is_reported(
    rig: Rig, published: Publication, caplog: pytest.LogCaptureFixture
) -> None:
    rig.broker().add(Account(NAME, "fake", "api-key"), ApiKey(Secret("sk-key")), replacing=True)
    assert f"profile {NAME} of account {NAME}: account '{NAME}' holds an API key" in caplog.text


def test_a_failed_grant_leaves_it(rig: Rig, published: Publication) -> None:
    rig.put(token())
    rig.endpoint.script.append(answer(503))
    with pytest.raises(RefreshFailed):
        rig.broker().resolve(NAME)
    assert sdk_token() == "access-0"


@pytest.mark.parametrize("fault", ["changed", "folder gone", "corrupt record"])
def test_no_fault_of_a_profile_harms_a_grant(
    rig: Rig, published: Publication, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    if fault == "changed":
        published.credentials.write_text("{}")
    elif fault == "folder gone":
        published.folder.path.rename(published.folder.path.with_name("gone"))
    else:
        [record] = rig.home.published.iterdir()
        record.write_text("{")
    broker = rig.broker()
    with caplog.at_level(logging.WARNING):
        assert value(broker.refresh(NAME)) == "access-1"
        assert broker.drain(PATIENCE)
    assert caplog.records
    assert "access-" not in caplog.text


def test_what_a_killed_process_left_behind_is_healed_by_the_next_caller(rig: Rig, published: Publication) -> None:
    rig.put(token(left=3600, number=4))  # renewed by a process that ended before it wrote the profile
    broker = rig.broker()
    assert state(broker) == "behind"
    assert value(broker.resolve(NAME)) == "access-4"
    wait_for(lambda: sdk_token() == "access-4")


def test_the_same_on_an_event_loop(rig: Rig, published: Publication) -> None:
    rig.put(token(left=3600, number=4))
    assert value(asyncio.run(rig.broker().aresolve(NAME))) == "access-4"
    wait_for(lambda: sdk_token() == "access-4")


def test_republish_looks_after_all_and_tells_how_they_stand(rig: Rig, published: Publication) -> None:
    rig.put(token(left=3600), "second")
    broker = rig.broker()
    broker.publish("second")
    rig.put(token(left=3600, number=4))
    rig.put(token(left=3600, number=5), "second")
    assert [one.standing.state for one in broker.publisher.published()] == ["behind", "behind"]
    [one] = broker.republish("second")
    assert (one.publication.profile, one.standing.state) == ("second", "current")
    assert [one.standing.state for one in broker.republish()] == ["current", "current"]
    assert (sdk_token(), sdk_token("second")) == ("access-4", "access-5")
    assert rig.endpoint.requests == 0


# -- ending


def test_a_removed_account_takes_its_profiles_with_it(rig: Rig, published: Publication) -> None:
    broker = rig.broker()
    broker.publish(NAME, "again")
    broker.remove(NAME)
    assert not published.config.exists()
    assert broker.publisher.published() == []


def test_files_of_a_removed_account_that_another_program_changed_stay_and_are_reported(
    rig: Rig, published: Publication, caplog: pytest.LogCaptureFixture
) -> None:
    published.config.write_text("{}")
    rig.broker().remove(NAME)
    assert published.config.read_text() == "{}"
    assert not published.credentials.exists()
    assert "was changed by another program, so it was left" in caplog.text


def test_the_profile_of_an_account_that_is_no_more_goes_at_the_next_occasion(rig: Rig, published: Publication) -> None:
    rig.store.swap(NAME, rig.store.read(NAME).generation, None)  # by a process that ended here
    broker = rig.broker()
    assert state(broker) == "held"
    [one] = broker.republish()
    assert one.standing.state == "removed"
    assert not published.credentials.exists()
    with pytest.raises(UnknownAccount):
        broker.resolve(NAME)


def test_unpublishing_names_what_is_meant(rig: Rig, published: Publication) -> None:
    publisher = rig.broker().publisher
    assert publisher.find(NAME, None) == publisher.find(None, NAME) == publisher.find(NAME, NAME)
    for name, profile, gateway in (("other", None, False), (NAME, "other", False), (None, None, True)):
        with pytest.raises(UnknownName, match="is not published"):
            publisher.find(name, profile, gateway=gateway)
    assert publisher.unpublish(publisher.find(NAME, None)) == []
    rig.broker().refresh(NAME)
    assert not published.folder.path.joinpath("credentials", f"{NAME}.json").exists()


# -- the gateway


def test_the_gateway_is_published_with_its_key_and_followed(rig: Rig) -> None:
    broker = rig.broker()
    with pytest.raises(ConfigError, match="tokenferry serve"):
        broker.publisher.publish_gateway("http://127.0.0.1:13456")
    key = local_key(rig.home)
    new = broker.publisher.publish_gateway("http://127.0.0.1:13456")
    provider = CredentialsFile(new.profile)
    found = provider()
    assert (found.token, found.expires_at) == (key.reveal(), None)
    assert provider.resolved_base_url == "http://127.0.0.1:13456"
    rig.home.local_key.unlink()
    rig.home.state.unlink()
    key = local_key(rig.home)
    assert [one.standing.state for one in broker.republish()] == ["current"]
    assert sdk_token(new.profile) == key.reveal()


def test_a_profile_of_anothers_is_left(rig: Rig) -> None:
    rig.put(token(left=3600))
    path = Path.home() / ".config" / "anthropic" / "configs" / f"{NAME}.json"
    path.parent.mkdir(mode=0o700, parents=True)
    path.write_text("{}")
    with pytest.raises(Conflict):
        rig.broker().publish(NAME)
    assert path.read_text() == "{}"
