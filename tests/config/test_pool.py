from collections.abc import Callable
from pathlib import Path

import pytest

from tokenferry.config import Config, load
from tokenferry.errors import ConfigError
from tokenferry.settings import AccountSettings, Caps, PoolSettings

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
        max_attempts = 4
        total_timeout = "1m"
        max_queue = 5
        quota_warning = 0.8
        overage = "avoid"
        requests_per_minute = 150
        tokens_per_minute = 80_000
        burst = 5
        max_concurrency = 8
        [accounts.work]
        max_concurrency = 2
        priority = 10
        [accounts."a@b.example"]
        requests_per_minute = 0
        paused = true
        [[providers]]
        name = "z.ai"
        provider_type = "z.ai"
        tokens_per_minute = 1_000_000
        [[providers]]
        name = "unlimited"
        base_url = "https://llm.example"
        burst = 9
    """).pool
    assert pool == PoolSettings(
        strategy="least-utilised",
        affinity_header="x-conversation-id",
        max_attempts=4,
        total_timeout=60,
        max_queue=5,
        quota_warning=0.8,
        overage="avoid",
        caps=Caps(150, 80_000, 5, 8),
        accounts=pool.accounts,
        providers={"z.ai": Caps(tokens_per_minute=1_000_000)},
    )
    assert pool.accounts == {
        "work": AccountSettings(150, 80_000, 5, 2, 10),
        "a@b.example": AccountSettings(0.0, 80_000, 5, 8, paused=True),
    }


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('strategy = "random"', "pool.strategy must be one of priority, round-robin, least-utilised"),
        ('affinity_header = "a b"', "pool.affinity_header must be the name of a request header"),
        ("max_attempts = 0", "pool.max_attempts must be a whole number from 1 to 100"),
        ("max_attempts = 1.5", "pool.max_attempts must be a whole number"),
        ("total_timeout = 0", "pool.total_timeout must be a duration from 1s to 10m"),
        ("max_queue = -1", "pool.max_queue must be a whole number from 0"),
        ("quota_warning = 90", "pool.quota_warning must be a number from 0 to 1"),
        ('overage = "maybe"', "pool.overage must be one of allow, avoid, refuse"),
        ("requests_per_minute = -1", "pool.requests_per_minute must be a number from 0"),
        ("burst = 0", "pool.burst must be a whole number from 1"),
        ("tokens_per_minute = true", "pool.tokens_per_minute must be a number from 0"),
        ("[accounts.work]\nrate = 2", "accounts.work.rate is now requests_per_minute, 60 times as much"),
        ("max_concurrency = 0.5", "pool.max_concurrency must be a whole number"),
        ("[accounts]\nwork = 3", "accounts.work must be a table"),
        (
            "[accounts.work]\nmax_concurency = 3",
            "accounts.work.max_concurency is not a known key; did you",
        ),
        ('[accounts."a b"]\nmax_concurrency = 3', "accounts.a b can't be an account's name"),
        ("stategy = 1", "pool.stategy is not a known key; did you mean strategy?"),
    ],
)
def test_a_wrong_value_is_named_by_its_key(write: Write, text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        write(f"[pool]\n{text}")
    assert any(problem in reported for reported in caught.value.problems), caught.value.problems


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
        assert any(problem in reported for reported in caught.value.problems)
