"""Every public use of the library as a type checker sees it; executed against the sandbox as well."""

import time
from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, assert_type

import anthropic
import httpx2
import openai

import tokenferry
from tokenferry import (
    Account,
    ApiKey,
    Broker,
    ConfigError,
    Credential,
    CredentialRefused,
    Document,
    ExchangedToken,
    FederatedToken,
    MemoryStore,
    NeedsLogin,
    OAuthToken,
    PolicyRefused,
    Secret,
    SetupToken,
    Store,
    TokenferryError,
    TryLater,
    UnknownName,
    UsageError,
)
from tokenferry.broker import PendingLogin, Revocation, StoredLogin
from tokenferry.providers import Provider
from tokenferry.refresh import FileJournal, RefreshStatistics
from tokenferry.settings import Home, PolicySettings, RefreshSettings
from tokenferry.stores import Lock

VERSION = {"anthropic-version": "2023-06-01"}
BODY: dict[str, Any] = {"model": "claude-x", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]}


class MyStore:
    """A store of one's own: no base class, only the methods."""

    def __init__(self, inner: MemoryStore) -> None:
        self.inner = inner

    def names(self) -> list[str]:
        return self.inner.names()

    def read(self, name: str) -> Document:
        return self.inner.read(name)

    def swap(self, name: str, expected: int | None, new: Document | None) -> None:
        self.inner.swap(name, expected, new)

    def discard(self, name: str) -> None:
        self.inner.discard(name)

    def lock(self, name: str) -> Lock:
        return self.inner.lock(name)

    def exclusive(self, name: str, timeout: float) -> AbstractContextManager[None]:
        return self.inner.exclusive(name, timeout)

    def stamps(self) -> Mapping[str, Hashable]:
        return self.inner.stamps()


def default_broker() -> None:
    """The functions of the package, over TOKENFERRY_HOME."""
    credential = tokenferry.resolve("alice")
    assert_type(credential, Credential)
    assert_type(credential.secret, Secret)
    assert_type(credential.headers(), tuple[tuple[str, str], ...])
    assert_type(credential.expires_at, int | None)
    assert_type(tokenferry.resolve(min_ttl=60), Credential)
    tokenferry.invalidate("alice", credential.secret)
    tokenferry.invalidate(None, Secret("some-other-token"))
    assert_type(tokenferry.default_broker(), Broker)
    assert_type(tokenferry.extract_login_url_from_error("no address in it"), str | None)


async def default_broker_async() -> None:
    assert_type(await tokenferry.aresolve("alice"), Credential)
    assert_type(await tokenferry.aresolve(min_ttl=60.0), Credential)


def kinds(credential: Credential) -> str:
    """A credential is one of five kinds, and a type checker knows when all are handled."""
    match credential:
        case ApiKey():
            return "key"
        case SetupToken():
            return "setup token"
        case FederatedToken():  # a kind of OAuth token: it comes before the others
            return "workload"
        case ExchangedToken():
            return "exchanged"
        case OAuthToken():
            assert_type(credential.refresh, Secret | None)
            assert_type(credential.scopes, tuple[str, ...])
            return "login"


def secrets() -> None:
    secret = Secret("a-token")
    assert_type(secret.reveal(), str)
    assert_type(secret.fingerprint, str)
    assert "a-token" not in repr(secret)


def own_store(providers: Mapping[str, Provider]) -> Broker:
    document = Document(Account("key", "sandbox", "api-key"), ApiKey(Secret("sk-ant-key")))
    store: Store = MyStore(MemoryStore(document))
    broker = Broker(store=store, providers=providers, refresh_timeout=30)
    assert_type(broker.accounts(), list[Account])
    assert_type(broker.resolve("key"), Credential)
    assert_type(broker.statistics("key"), RefreshStatistics)
    assert_type(broker.drain(1.0), bool)
    return broker


def own_settings(folder: Path, providers: Mapping[str, Provider]) -> Broker:
    home = Home(folder)
    return Broker(
        home=home,
        journal=FileJournal(home.journal),
        providers=providers,
        policy=PolicySettings(subscriptions="claude-code-only"),
        settings=RefreshSettings(advisory=600, mandatory=60, wait=30),
        refresh_timeout=20,
    )


def swap(broker: Broker) -> None:
    assert_type(tokenferry.swap_to_next_available_account(None), str)
    assert_type(tokenferry.swap_to_next_available_account(1_800_000_000, broker), str)
    assert_type(tokenferry.swap_to_next_available_account(time.time() + 60, broker), str)
    assert_type(tokenferry.swap_to_next_available_account(datetime.now(UTC), broker), str)


def next_account() -> None:
    chosen = tokenferry.select_next_account_for_swap(["a", "b"], {"a": None}, now=time.time(), current="c")
    assert_type(chosen, str | None)
    assert chosen == "b"


def accounts(broker: Broker, log_in: Callable[[str], str]) -> None:
    """From the first login to the last; `log_in` opens a URL and gives what its last page shows."""
    login = broker.begin_login("sandbox")
    assert_type(login, PendingLogin)
    assert_type(login.url, str)
    kept = login.finish(log_in(login.url), "mine")
    assert_type(kept, StoredLogin)
    assert_type(kept.name, str)
    assert_type(broker.add(Account("key", "sandbox", "api-key"), ApiKey(Secret("sk-ant-key"))), bool)
    assert_type(broker.refresh("mine"), Credential)
    revocation = broker.revoke("mine")
    assert_type(revocation, Revocation)
    assert_type((revocation.is_done, revocation.reason), tuple[bool, str])
    broker.remove("mine")
    broker.remove("key")


def errors() -> tuple[str, int, float | None]:
    try:
        tokenferry.resolve("nobody")
    except TryLater as fault:
        return str(fault), fault.exit_code, fault.retry_after
    except (NeedsLogin, CredentialRefused, PolicyRefused, UnknownName, UsageError) as fault:
        return str(fault), fault.exit_code, None
    except ConfigError as fault:
        assert_type(fault.problems, tuple[str, ...])
    except TokenferryError:
        pass
    return "", 0, None


def clients(broker: Broker, base_url: str) -> None:
    """Every client takes what its integration gives."""
    httpx2.Client(auth=tokenferry.auth()).close()
    httpx2.Client(auth=tokenferry.auth("alice", broker=broker)).close()
    anthropic.Anthropic(credentials=tokenferry.anthropic_credentials("alice", broker=broker), base_url=base_url).close()
    openai.OpenAI(api_key=tokenferry.openai_api_key("alice", broker=broker), base_url=base_url).close()


async def async_clients(broker: Broker, base_url: str) -> None:
    await httpx2.AsyncClient(auth=tokenferry.auth("alice", broker=broker)).aclose()
    credentials = tokenferry.async_anthropic_credentials("alice", broker=broker)
    await anthropic.AsyncAnthropic(credentials=credentials, base_url=base_url).close()
    await anthropic.AsyncAnthropic(credentials=tokenferry.anthropic_credentials(), base_url=base_url).close()
    api_key = tokenferry.async_openai_api_key("alice", broker=broker)
    await openai.AsyncOpenAI(api_key=api_key, base_url=base_url).close()


def in_this_process(base_url: str) -> None:
    """Clients that send through the gateway of this process."""
    assert_type(tokenferry.httpx_client(), httpx2.Client)
    assert_type(tokenferry.anthropic(account="alice", max_retries=0), anthropic.Anthropic)
    assert_type(tokenferry.openai(), openai.OpenAI)
    with httpx2.Client(transport=tokenferry.transport(account="alice"), headers=VERSION) as client:
        assert client.post(f"{base_url}/v1/messages", json=BODY).status_code == 200
    with tokenferry.anthropic(account="alice", base_url=base_url) as sdk:
        assert sdk.messages.create(**BODY).content


def with_googles_sdk(base_url: str) -> None:
    """What `make e2e` runs: the SDK is too large for the other tests."""
    client = tokenferry.genai(account="alice", http_options={"base_url": base_url})
    assert client.models.generate_content(model="claude-sonnet-5-5", contents="Hello").text


async def in_this_process_on_asyncio(base_url: str) -> None:
    assert_type(tokenferry.async_httpx_client(), httpx2.AsyncClient)
    assert_type(tokenferry.async_openai(), openai.AsyncOpenAI)
    assert_type(tokenferry.async_anthropic(), anthropic.AsyncAnthropic)
    async with httpx2.AsyncClient(transport=tokenferry.async_transport(account="alice"), headers=VERSION) as client:
        assert (await client.post(f"{base_url}/v1/messages", json=BODY)).status_code == 200


def private_gateway() -> None:
    with tokenferry.private_gateway() as gateway, tokenferry.gateway(account="alice") as pinned:
        assert_type(pinned.url, str)
        assert_type(gateway.url, str)
        assert_type(gateway.key, Secret)
