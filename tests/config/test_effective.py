from pathlib import Path

import pytest

from tokenferry.config import Effective, Examined, examine, examine_content
from tokenferry.errors import ConfigError, UnsafeFile
from tokenferry.policy_statement import state

KEY = "sk-ant-api03-abcdefghijklmnop"


def of(examined: Examined, path: str) -> Effective:
    (found,) = [one for one in examined.effective() if one.path == path]
    return found


def test_each_setting_tells_where_it_is_from(tmp_path: Path) -> None:
    content = b'[server]\nport = 1\n[[providers]]\nname = "idp"\nbase_url = "https://x.example"\n'
    examined = examine_content(content, tmp_path / "config.toml", environ={})
    assert (of(examined, "server.port").value, of(examined, "server.port").source) == (1, "config.toml")
    assert (of(examined, "server.host").value, of(examined, "server.host").source) == ("127.0.0.1", "default")
    assert of(examined, "providers.idp.base_url").source == "config.toml"
    assert of(examined, "providers.idp.enabled").source == "default"
    assert of(examined, "providers.anthropic.base_url").source == "built-in"


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    examined = examine(tmp_path / "config.toml", environ={})
    assert not examined.exists
    assert not examined.problems
    assert {one.source for one in examined.effective()} == {"default", "built-in"}


def test_the_statement_of_a_policy_is_shown_unless_the_file_rules(tmp_path: Path) -> None:
    statement = tmp_path / "home" / "policy.json"
    state(statement, 1_700_000_000)
    path = tmp_path / "home" / "config.toml"
    found = of(examine_content(b"", path, environ={}, statement=statement), "policy.subscriptions")
    assert (found.value, found.source) == ("own-use", "statement")
    content = b'[policy]\nsubscriptions = "claude-code-only"\n'
    found = of(examine_content(content, path, environ={}, statement=statement), "policy.subscriptions")
    assert (found.value, found.source) == ("claude-code-only", "config.toml")


def test_a_key_is_shown_by_its_fingerprint(tmp_path: Path) -> None:
    content = b'[[providers]]\nname = "idp"\nbase_url = "https://x.example"\napi_key = "$IDP_KEY"\n'
    found = of(examine_content(content, tmp_path / "c", environ={"IDP_KEY": KEY}), "providers.idp.api_key")
    assert found.value == "$IDP_KEY"
    assert found.fingerprint is not None
    assert len(found.fingerprint) == 8
    assert KEY not in repr(found)
    assert of(examine_content(content, tmp_path / "c", environ={}), "providers.idp.api_key").fingerprint is None


def test_every_fault_is_known_and_raised_when_asked(tmp_path: Path) -> None:
    examined = examine_content(b'[server]\nport = "x"\nhots = 1\n', tmp_path / "c", environ={})
    assert len(examined.problems) == 2
    with pytest.raises(ConfigError) as caught:
        examined.raise_problems()
    assert caught.value.problems == examined.problems


def test_a_file_that_others_could_write_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.touch()
    path.chmod(0o666)
    with pytest.raises(UnsafeFile, match="chmod"):
        examine(path)
