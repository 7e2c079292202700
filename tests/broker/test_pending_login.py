import re
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from leaks import leaks
from refresh.rig import PATIENCE, sandbox_providers
from tokenferry.broker import Broker, PendingLogin
from tokenferry.credentials import ApiKey, OAuthToken
from tokenferry.errors import LoginFailed, PolicyRefused, UnknownProvider, UsageError
from tokenferry.providers import builtin_providers
from tokenferry.sandbox import Sandbox
from tokenferry.secret import Secret
from tokenferry.settings import Home
from tokenferry.stores import Account


@pytest.fixture
def broker(home: Home, tokenferry_sandbox: Sandbox) -> Iterator[Broker]:
    broker = Broker(home=home, providers={**builtin_providers(), **sandbox_providers(tokenferry_sandbox)})
    yield broker
    assert broker.drain(PATIENCE)


def agree(login: PendingLogin, who: str = "alice") -> str:
    """Log in as a person does; what the last page shows."""
    with httpx2.Client(follow_redirects=True, timeout=PATIENCE) as browser:
        page = browser.get(f"{login.url}&login_hint={who}")
    found = re.search(r"[\w-]+#[0-9a-f]{64}", page.text)
    assert found, page.text
    return found[0]


def test_a_login_is_begun_finished_used_renewed_ended_and_removed(broker: Broker, tokenferry_sandbox: Sandbox) -> None:
    login = broker.begin_login("sandbox")
    kept = login.finish(agree(login), "work")
    assert (kept.name, kept.has_replaced) == ("work", False)
    first = broker.resolve("work")
    assert isinstance(first, OAuthToken)
    assert first.email == "alice@example.com"
    assert broker.refresh("work").secret != first.secret
    assert broker.revoke("work").is_done
    broker.remove("work")
    assert broker.accounts() == []


def test_without_a_name_it_updates_the_account_of_the_same_person(broker: Broker) -> None:
    login = broker.begin_login("sandbox")
    login.finish(agree(login), "work")
    again = broker.begin_login("sandbox")
    kept = again.finish(agree(again))
    assert (kept.name, kept.is_known, kept.has_replaced) == ("work", True, True)


def test_what_is_no_answer_and_a_name_that_cannot_be_had_use_nothing_up(broker: Broker) -> None:
    broker.add(Account("key", "sandbox", "api-key"), ApiKey(Secret("sk-ant-key")))
    login = broker.begin_login("sandbox")
    other = broker.begin_login("sandbox")
    pasted = agree(login)
    for wrong in ("", "hello", "code#state", agree(other)):
        with pytest.raises(LoginFailed, match="CODE#STATE") as caught:
            login.finish(wrong)
        assert not leaks(caught.value, pasted.partition("#")[0])
    for name in ("key", "no name"):
        with pytest.raises(UsageError):
            login.finish(pasted, name)
    assert login.finish(pasted, "work").name == "work"
    assert "code_challenge" not in repr(login)


@pytest.mark.parametrize(
    ("provider", "error", "words"),
    [
        ("nowhere", UnknownProvider, "there is no provider 'nowhere'; those to log in at: .*sandbox"),
        ("anthropic", UsageError, "provider 'anthropic' has no client_id and no authorization_endpoint.*console"),
        ("claude-max", PolicyRefused, "tokenferry policy set own-use"),
    ],
)
def test_where_one_cannot_log_in_is_said_when_it_is_begun(
    broker: Broker, provider: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        broker.begin_login(provider)


def test_what_add_stores_can_be_read_again_whatever_numbers_it_was_given(broker: Broker) -> None:
    times: Any = 1_700_000_000.75
    token = OAuthToken(Secret("an-access-token"), expires_at=4_000_000_000)
    broker.add(Account("b", "sandbox", "oauth", created_at=times), token)
    broker.add(Account("a", "sandbox", "oauth"), token)
    assert [account.name for account in broker.accounts()] == ["b", "a"]
    assert broker.accounts()[0].created_at == 1_700_000_000
    with pytest.raises(UsageError, match="takes an api-key, and an oauth was given"):
        broker.add(Account("c", "sandbox", "api-key"), token)
