import json
import stat
from pathlib import Path

import pytest

from tokenferry.config import load
from tokenferry.errors import CorruptFile, UnsafeFile
from tokenferry.policy_statement import STATEMENT, TERMS, state, stated_at, withdraw
from tokenferry.settings import Home

NOW = 1_700_000_000


def test_it_is_kept_private_and_dated_until_it_is_taken_back(home: Home) -> None:
    assert stated_at(home.statement) is None
    state(home.statement, NOW + 0.5)
    assert stat.S_IMODE(home.statement.stat().st_mode) == 0o600
    kept = json.loads(home.statement.read_text())
    assert kept == {"subscription": "own", "stated_at": NOW, "statement": STATEMENT, "terms": TERMS}
    assert stated_at(home.statement) == NOW
    withdraw(home.statement)
    withdraw(home.statement)
    assert stated_at(home.statement) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"subscription": "own"}', '{"subscription": "yes", "stated_at": 1}'])
def test_what_can_not_be_understood_states_nothing(home: Home, text: str) -> None:
    home.statement.write_text(text)
    home.statement.chmod(0o600)
    with pytest.raises(CorruptFile, match="tokenferry policy set own-use"):
        stated_at(home.statement)


def test_what_others_could_have_written_states_nothing(home: Home) -> None:
    state(home.statement, NOW)
    home.statement.chmod(0o666)
    with pytest.raises(UnsafeFile):
        load(home.config, statement=home.statement)


def configured(home: Home, text: str) -> tuple[str, str, int | None]:
    home.config.write_text(text)
    home.config.chmod(0o600)
    policy = load(home.config, statement=home.statement).policy
    return policy.subscriptions, policy.source, policy.stated_at


def test_the_configuration_goes_before_it(home: Home) -> None:
    state(home.statement, NOW)
    assert configured(home, "") == ("own-use", "statement", NOW)
    assert configured(home, '[policy]\nsubscriptions = "claude-code-only"\n') == (
        "claude-code-only",
        "config.toml",
        None,
    )
    withdraw(home.statement)
    assert configured(home, '[policy]\nsubscriptions = "own-use"\n') == ("own-use", "config.toml", None)
    assert configured(home, "[policy]\n") == ("claude-code-only", "default", None)


def test_it_holds_without_a_configuration(home: Home, tmp_path: Path) -> None:
    state(home.statement, NOW)
    assert load(tmp_path / "none.toml", statement=home.statement).policy.subscriptions == "own-use"
    assert load(tmp_path / "none.toml").policy.subscriptions == "claude-code-only"
