from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tokenferry.budgets import SpendingLimit
from tokenferry.config import Config, load
from tokenferry.errors import ConfigError


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Config]:
    def write(text: str) -> Config:
        path = tmp_path / "config.toml"
        path.write_text(text)
        path.chmod(0o600)
        return load(path, environ={})

    return write


def test_several_budgets_of_one_subject_hold_at_once(write: Callable[[str], Config]) -> None:
    config = write(
        """
        [[budgets]]
        limit = "200usd/month"
        [[budgets]]
        limit = "20usd/day"
        timezone = "Europe/Berlin"
        [[budgets]]
        subject = "group:build"
        limit = "2Mtokens/week"
        week_start = "sunday"
        mode = "warn"
        """
    )
    assert [str(budget.limit) for budget in config.budgets] == ["200usd/month", "20usd/day", "2000000tokens/week"]
    assert config.budgets[1].zone == ZoneInfo("Europe/Berlin")
    assert config.budgets[2].first_weekday == 6
    assert config.budgets[2].limit == SpendingLimit(2_000_000, "tokens", "week")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("mode = 'warn'", "limit is missing"),
        ("limit = '200'", "limit must be an amount of usd or tokens"),
        ("limit = '1usd/day'\nsubject = 'laptop'", 'subject must be "key:NAME", "group:NAME" or "all"'),
        ("limit = '1usd/day'\ntimezone = 'Mars'", "timezone must be one that this machine knows"),
        ("limit = '1usd/day'\nmode = 'block'", "mode must be"),
        ("limit = '1usd/day'\n[[budgets]]\nlimit = '2usd/day'", "limit is a second one for all a day"),
    ],
)
def test_what_is_wrong_is_said(write: Callable[[str], Config], text: str, fault: str) -> None:
    with pytest.raises(ConfigError) as raised:
        write(f"[[budgets]]\n{text}")
    assert fault in str(raised.value)
