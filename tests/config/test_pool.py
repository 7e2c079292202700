from collections.abc import Callable
from pathlib import Path

import pytest

from tokenferry.config import Config, load
from tokenferry.errors import ConfigError
from tokenferry.settings import AccountCaps, PoolSettings

Write = Callable[[str], Config]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Config:
        path = tmp_path / "config.toml"
        path.write_text(text)
        path.chmod(0o600)
        return load(path, environ={})

    return write


def test_without_a_word_the_first_account_in_order_serves_and_nothing_is_capped(write: Write) -> None:
    assert write("").pool == PoolSettings()
    assert write("[pool]").pool == PoolSettings()


def test_everything_can_be_said_and_an_account_keeps_what_it_does_not_say(write: Write) -> None:
    pool = write("""
        [pool]
        strategy = "least-utilised"
        affinity_header = "X-Conversation-Id"
        attempts = 4
        total = 60
        queue = 5
        quota_threshold = 0.9
        overage = "avoid"
        rate = 2.5
        concurrency = 8
        [pool.accounts.work]
        concurrency = 2
        [pool.accounts."a@b.example"]
        rate = 0
    """).pool
    assert pool == PoolSettings(
        strategy="least-utilised",
        affinity_header="x-conversation-id",
        attempts=4,
        total=60,
        queue=5,
        quota_threshold=0.9,
        overage="avoid",
        caps=AccountCaps(2.5, 8),
        account_caps=pool.account_caps,
    )
    assert pool.account_caps == {"work": AccountCaps(2.5, 2), "a@b.example": AccountCaps(0.0, 8)}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('strategy = "random"', "pool.strategy must be one of priority, round-robin, least-utilised"),
        ('affinity_header = "a b"', "pool.affinity_header must be the name of a request header"),
        ("attempts = 0", "pool.attempts must be a number from 1 to 100"),
        ("attempts = 1.5", "pool.attempts must be a whole number"),
        ("total = 0", "pool.total must be a number from 1 to 600"),
        ("queue = -1", "pool.queue must be a number from 0"),
        ("quota_threshold = 90", "pool.quota_threshold must be a number from 0 to 1"),
        ('overage = "maybe"', "pool.overage must be one of allow, avoid, refuse"),
        ("rate = -1", "pool.rate must be a number from 0"),
        ("concurrency = 0.5", "pool.concurrency must be a whole number"),
        ("accounts = 3", "pool.accounts must be a table"),
        ("accounts.work = 3", "pool.accounts.work must be a table"),
        ("accounts.work.rates = 3", "pool.accounts.work.rates is no key that tokenferry knows; did you mean rate?"),
        ('accounts."a b".rate = 3', "pool.accounts.a b can't be an account's name"),
        ("stategy = 1", "pool.stategy is no key that tokenferry knows; did you mean strategy?"),
    ],
)
def test_a_wrong_value_is_told_by_its_key(write: Write, text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        write(f"[pool]\n{text}")
    assert any(told.startswith(problem) for told in caught.value.problems), caught.value.problems


def test_a_usage_url_is_on_the_host_that_the_login_is_for(write: Write) -> None:
    config = write("""
        [[providers]]
        name = "claude-max"
        usage_url = "{base_url}/api/oauth/usage"
    """)
    assert config.providers["claude-max"].usage_endpoint == "https://api.anthropic.com/api/oauth/usage"
    assert config.providers["anthropic"].usage_endpoint is None
    for url, problem in (
        ("https://elsewhere.example/usage", "providers.mine.usage_url must be on the host of base_url"),
        ("http://llm.example/usage", "providers.mine.usage_url"),
    ):
        with pytest.raises(ConfigError) as caught:
            write(f'[[providers]]\nname = "mine"\nbase_url = "https://llm.example"\nusage_url = "{url}"')
        assert any(told.startswith(problem) for told in caught.value.problems)
