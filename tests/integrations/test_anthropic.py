import asyncio
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anthropic
import pytest
from anthropic.lib.credentials import AccessToken, WorkloadIdentityCredentials
from msgspec.structs import replace

import tokenferry
from integrations.rig import BODY, Rig
from leaks import leaks
from refresh.rig import PATIENCE, sandbox_providers, value, wait_for
from tokenferry.broker import Broker
from tokenferry.credentials import FederatedToken, Federation
from tokenferry.errors import NeedsLogin, RefreshFailed, TryLater, UnknownAccount, UsageError
from tokenferry.integrations._anthropic import AsyncCredentials, Credentials
from tokenferry.providers import builtin_providers
from tokenferry.stores import Account

CLIENTS = 20


def client(rig: Rig, credentials: Any = None, **options: Any) -> anthropic.Anthropic:
    credentials = credentials or tokenferry.anthropic_credentials("alice", broker=rig.broker)
    return anthropic.Anthropic(base_url=rig.sandbox.url, credentials=credentials, **options)


def async_client(rig: Rig, credentials: Any = None, **options: Any) -> anthropic.AsyncAnthropic:
    credentials = credentials or tokenferry.async_anthropic_credentials("alice", broker=rig.broker)
    return anthropic.AsyncAnthropic(base_url=rig.sandbox.url, credentials=credentials, **options)


def ask(sdk: anthropic.Anthropic) -> anthropic.types.Message:
    answer: anthropic.types.Message = sdk.messages.create(**BODY)
    return answer


def test_the_sdk_takes_it(rig: Rig) -> None:
    with client(rig) as sdk:
        assert sdk.messages.create(**BODY).content
        with sdk.messages.stream(**BODY) as stream:
            assert "".join(stream.text_stream)
    assert {each["account"] for each in rig.messages()} == {"alice"}


def federate(rig: Rig, path: Path) -> FederatedToken:
    """Carol's workload, as account `ci`."""
    path.write_text(rig.sandbox.identity_token("carol"))
    parameters = (("federation_rule_id", "rule"), ("organization_id", "org"))
    provider = replace(
        rig.broker.providers["sandbox"], oauth=builtin_providers()["anthropic"].oauth
    )  # the vendor's way
    token = rig.broker.federate(provider, Federation(str(path), parameters=parameters))
    rig.broker.add(Account("ci", "sandbox", "federated"), token)
    return token


def test_a_workloads_account_serves_the_sdk_and_is_exchanged_again_when_its_token_is_refused(
    rig: Rig, tmp_path: Path
) -> None:
    federate(rig, tmp_path / "identity")
    with client(rig, tokenferry.anthropic_credentials("ci", broker=rig.broker)) as sdk:
        assert ask(sdk).content
        rig.sandbox.revoke("carol")
        assert ask(sdk).content
    assert [each["status"] for each in rig.messages()] == [200, 401, 200]
    assert rig.sandbox.counters()["accounts"]["carol"]["exchanges"] == 2


def test_the_exchange_is_that_of_the_sdk(rig: Rig, tmp_path: Path) -> None:
    """The SDK's own workload identity at the same server: the same path, headers and fields."""
    federate(rig, tmp_path / "identity")
    credentials = WorkloadIdentityCredentials(
        identity_token_provider=(tmp_path / "identity").read_text, federation_rule_id="rule", organization_id="org"
    )
    with anthropic.Anthropic(base_url=rig.sandbox.url, credentials=credentials) as sdk:
        assert ask(sdk).content
    ours, theirs = (each for each in rig.sandbox.requests() if each["path"] == "/v1/oauth/token")
    assert (ours["status"], theirs["status"]) == (200, 200)
    for name in ("anthropic-beta", "content-type"):
        assert dict(ours["headers"])[name] == dict(theirs["headers"])[name]


def test_the_asynchronous_sdk_takes_either_kind(rig: Rig) -> None:
    async def use(credentials: Credentials | AsyncCredentials) -> bool:
        async with async_client(rig, credentials) as sdk:
            return bool((await sdk.messages.create(**BODY)).content)

    assert asyncio.run(use(tokenferry.async_anthropic_credentials("alice", broker=rig.broker)))
    assert asyncio.run(use(tokenferry.anthropic_credentials("alice", broker=rig.broker)))


def test_the_sdk_keeps_no_copy_so_a_new_login_counts_at_the_next_request(rig: Rig) -> None:
    with client(rig) as sdk:
        sdk.messages.create(**BODY)
        second = rig.login(expires_in=28_800)
        wait_for(lambda: value(rig.broker.resolve("alice")) == value(second))
        sdk.messages.create(**BODY)
    before, after = rig.messages()
    assert before["credentials"] != after["credentials"]
    assert (before["status"], after["status"]) == (200, 200)
    assert rig.refreshes() == 0


def test_it_is_asked_before_every_request_and_gives_the_same_object_while_nothing_changes(rig: Rig) -> None:
    credentials = tokenferry.anthropic_credentials("alice", broker=rig.broker)
    first = credentials()
    assert first == AccessToken(value(rig.first), 0)
    assert credentials() is first
    assert asyncio.run(tokenferry.async_anthropic_credentials("alice", broker=rig.broker)()) == first


def test_a_revoked_token_is_renewed_by_one_retry_of_the_sdk(rig: Rig) -> None:
    with client(rig, max_retries=1) as sdk:
        sdk.messages.create(**BODY)
        rig.sandbox.revoke("alice")
        assert sdk.messages.create(**BODY).content
    assert [each["status"] for each in rig.messages()] == [200, 401, 200]
    assert rig.refreshes() == 1


def test_twenty_clients_on_twenty_threads_refused_at_once_make_one_refresh(rig: Rig) -> None:
    sdks = [client(rig, max_retries=2) for _ in range(CLIENTS)]
    rig.broker.resolve("alice")
    rig.sandbox.revoke("alice")
    rig.sandbox.fault("hang", path="/v1/messages", times=CLIENTS)
    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = [pool.submit(ask, sdk) for sdk in sdks]
        wait_for(lambda: rig.sandbox.counters()["in_flight"] == CLIENTS)
        rig.sandbox.clear()
        assert all(answer.result(PATIENCE).content for answer in answers)
    for sdk in sdks:
        sdk.close()
    statuses = [each["status"] for each in rig.messages()]
    assert (statuses.count(401), statuses.count(200)) == (CLIENTS, CLIENTS)
    assert rig.refreshes() == 1


@pytest.mark.parametrize("is_shared", [False, True], ids=["one object each", "one object for all"])
def test_twenty_late_401s_on_asyncio_make_one_refresh(rig: Rig, is_shared: bool) -> None:  # noqa: FBT001  # a parameter
    shared = tokenferry.async_anthropic_credentials("alice", broker=rig.broker) if is_shared else None

    async def crowd() -> None:
        sdks = [async_client(rig, shared, max_retries=2) for _ in range(CLIENTS)]
        for sdk in sdks:
            assert sdk.credentials is not None
        tasks = [asyncio.create_task(sdk.messages.create(**BODY)) for sdk in sdks]
        while rig.sandbox.counters()["in_flight"] < CLIENTS:  # noqa: ASYNC110  # the server tells nobody
            await asyncio.sleep(0.01)
        rig.sandbox.clear()
        for answer in await asyncio.gather(*tasks):
            assert answer.content
        for sdk in sdks:
            await sdk.close()

    rig.broker.resolve("alice")
    rig.sandbox.revoke("alice")
    rig.sandbox.fault("hang", path="/v1/messages", times=CLIENTS)
    asyncio.run(crowd())
    statuses = [each["status"] for each in rig.messages()]
    assert (statuses.count(401), statuses.count(200)) == (CLIENTS, CLIENTS)
    assert rig.refreshes() == 1


def test_refusals_that_come_one_by_one_long_after_the_renewal_refresh_nothing_more(rig: Rig) -> None:
    """Each client learns of its 401 only when the token is another by now, or was granted a moment ago."""
    each = [tokenferry.anthropic_credentials("alice", broker=rig.broker) for _ in range(CLIENTS)]
    shared = tokenferry.anthropic_credentials("alice", broker=rig.broker)
    for credentials in (*each, shared):
        credentials()
    rig.sandbox.revoke("alice")
    given = {credentials(force_refresh=True).token for credentials in (*each, *[shared] * CLIENTS)}
    assert len(given) == 1
    assert value(rig.first) not in given
    assert rig.refreshes() == 1


def test_a_forced_call_before_any_other_renews(rig: Rig) -> None:
    credentials = tokenferry.anthropic_credentials("alice", broker=rig.broker)
    assert credentials(force_refresh=True).token != value(rig.first)
    assert rig.refreshes() == 1


def test_a_token_that_stays_refused_ends_as_the_sdks_own_error(rig: Rig) -> None:
    rig.sandbox.fault("status", status=401, path="/v1/messages", times=0)
    with client(rig) as sdk, pytest.raises(anthropic.AuthenticationError):
        sdk.messages.create(**BODY)
    assert rig.refreshes() == 1


def test_our_errors_pass_through_the_sdk_at_once_and_unchanged(rig: Rig) -> None:
    rig.login(expires_in=-10)
    rig.sandbox.revoke("alice", "family")
    with client(rig, max_retries=5) as sdk, pytest.raises(NeedsLogin, match="log in again with: tokenferry") as caught:
        sdk.messages.create(**BODY)
    assert isinstance(caught.value, anthropic.AnthropicError)
    assert caught.value.exit_code == 5
    assert rig.messages() == []
    assert not leaks(caught.value, value(rig.first))


def test_our_errors_keep_what_they_carry_and_can_be_pickled(rig: Rig) -> None:
    rig.login(expires_in=-10)
    rig.sandbox.fault("status", status=503, headers={"retry-after": "77"}, path="/v1/oauth/token")
    credentials = tokenferry.async_anthropic_credentials("alice", broker=rig.broker)
    with pytest.raises(TryLater) as caught:
        asyncio.run(credentials())
    assert isinstance(caught.value, RefreshFailed)
    assert caught.value.retry_after == 77
    assert repr(caught.value).startswith("RefreshFailed(")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert type(copy) is RefreshFailed
    assert (str(copy), copy.retry_after) == (str(caught.value), 77)
    assert not hasattr(credentials, "close")


def test_an_api_key_is_refused_with_the_place_where_the_sdk_takes_it(rig: Rig) -> None:
    key = rig.add_key()
    sync = tokenferry.anthropic_credentials("key", broker=rig.broker)
    asynchronous = tokenferry.async_anthropic_credentials("key", broker=rig.broker)

    def wait() -> AccessToken:
        return asyncio.run(asynchronous())

    for give in (sync, wait):
        with pytest.raises(UsageError, match=r"account 'key' holds an API key.*Anthropic\(api_key=") as caught:
            give()
        assert not leaks(caught.value, key)
    with anthropic.Anthropic(
        base_url=rig.sandbox.url, api_key=rig.broker.resolve("key").secret.reveal(), max_retries=0
    ) as sdk:
        assert sdk.messages.create(**BODY).content


def test_a_key_that_its_provider_takes_as_a_bearer_token_is_given_as_one(rig: Rig) -> None:
    key = rig.add_key()
    providers = sandbox_providers(rig.sandbox)
    providers["sandbox"] = replace(providers["sandbox"], key_header="authorization")
    broker = Broker(home=rig.home, providers=providers)
    assert tokenferry.anthropic_credentials("key", broker=broker)().token == key


def test_an_unknown_account_is_reported_when_it_is_asked_for(rig: Rig) -> None:
    credentials = tokenferry.anthropic_credentials("nobody", broker=rig.broker)
    with pytest.raises(UnknownAccount):
        credentials()
