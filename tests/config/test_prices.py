from collections.abc import Callable
from pathlib import Path

import pytest

from tokenferry.config import Config, load
from tokenferry.errors import ConfigError
from tokenferry.settings import LedgerSettings, PriceSettings


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Config]:
    def write(text: str) -> Config:
        path = tmp_path / "config.toml"
        path.write_text(text)
        path.chmod(0o600)
        return load(path, environ={})

    return write


def test_what_is_left_out_is_kept_for_90_and_400_days(write: Callable[[str], Config]) -> None:
    assert write("[ledger]").ledger == LedgerSettings(90 * 86_400, 400 * 86_400)
    assert write('[ledger]\nkeep_requests = "7d"\nkeep_hours = "30d"').ledger == LedgerSettings(7 * 86_400, 30 * 86_400)
    assert write('[ledger]\non_store_away = "refuse"').ledger == LedgerSettings(on_store_away="refuse")


def test_prices_are_read_in_their_order(write: Callable[[str], Config]) -> None:
    config = write(
        """
        [[prices]]
        provider = "anthropic"
        model = "claude-*"
        percent = 80
        from = "2026-09-01"
        [[prices]]
        model = "glm-5"
        input = 0.6
        output = 2.2
        cache_read = 0
        """
    )
    assert config.prices == (
        PriceSettings("claude-*", "anthropic", 80, since="2026-09-01"),
        PriceSettings("glm-5", input=0.6, output=2.2, cache_read=0),
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("percent = 80", "model is missing"),
        ('model = "x"\ninput = 1', "output is missing beside input"),
        ('model = "x"\ncache_read = 1', "input is missing beside cache_read"),
        ('model = "x"\ninput = -1\noutput = 1', "input must be a number"),
        ('model = "x"\nprovider = "nobody"', "names 'nobody', which is not a provider"),
        ('model = "x"\nfrom = "yesterday"', "from must be a date"),
        ('model = "x"\ninputs = 1', "did you mean input?"),
    ],
)
def test_what_is_wrong_is_said(write: Callable[[str], Config], text: str, fault: str) -> None:
    with pytest.raises(ConfigError) as raised:
        write(f"[[prices]]\n{text}")
    assert fault in str(raised.value)
