import os
import re
from pathlib import Path

import pytest
from msgspec import Struct

from tokenferry.errors import ConfigError
from tokenferry.settings import Home, PolicySettings, RefreshSettings, RouterSettings, ServerSettings


def test_tokenferry_home_names_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TOKENFERRY_HOME", str(tmp_path))
    assert Home.from_environment().path == tmp_path


def test_a_relative_home_is_refused_with_the_absolute_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOKENFERRY_HOME", "here")
    with pytest.raises(ConfigError, match=re.escape(f"set it to an absolute path, such as {tmp_path}/here")):
        Home.from_environment()


def test_everything_but_the_configuration_lies_in_the_data_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    person = Path(os.environ["HOME"])
    monkeypatch.delenv("TOKENFERRY_HOME")
    assert Home.from_environment() == Home(
        person / ".local" / "share" / "tokenferry", person / ".config" / "tokenferry" / "config.toml"
    )
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    monkeypatch.setenv("XDG_CONFIG_HOME", "")
    assert Home.from_environment().path == person / ".local" / "share" / "tokenferry"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    found = Home.from_environment()
    assert (found.path, found.config) == (tmp_path / "data/tokenferry", tmp_path / "config/tokenferry/config.toml")
    monkeypatch.setenv("TOKENFERRY_HOME", str(tmp_path / "home"))
    assert Home.from_environment().config == tmp_path / "home" / "config.toml"


def test_another_configuration_can_be_named_for_either_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TOKENFERRY_CONFIG", str(tmp_path / "other.toml"))
    for _ in range(2):
        found = Home.from_environment()
        assert (found.config, found.is_config_named) == (tmp_path / "other.toml", True)
        monkeypatch.delenv("TOKENFERRY_HOME", raising=False)


@pytest.mark.parametrize("kind", ["accounts", "attached"])
def test_accounts_of_the_former_place_are_named_while_nothing_else_is_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    former = Path(os.environ["HOME"]) / ".config" / "tokenferry"
    (former / kind).mkdir(parents=True)
    monkeypatch.delenv("TOKENFERRY_HOME")
    assert Home.from_environment().path != former
    (former / kind / "work.json").touch()
    with pytest.raises(ConfigError, match=re.escape(f"are used with: export TOKENFERRY_HOME={former}")):
        Home.from_environment()
    monkeypatch.setenv("TOKENFERRY_HOME", str(former))
    assert Home.from_environment() == Home(former)
    monkeypatch.delenv("TOKENFERRY_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(former.parent))
    assert Home.from_environment().path == former
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    (tmp_path / "data" / "tokenferry" / "accounts").mkdir(parents=True)
    assert Home.from_environment().path == tmp_path / "data" / "tokenferry"


def test_a_tilde_is_the_home_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TOKENFERRY_HOME", "~/keys")
    assert Home.from_environment().path == tmp_path / "keys"


def test_no_home_directory_is_a_config_error_that_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_user(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.delenv("HOME")
    monkeypatch.delenv("TOKENFERRY_HOME")
    monkeypatch.setattr("pwd.getpwuid", no_user)
    with pytest.raises(ConfigError, match="set HOME, or TOKENFERRY_HOME"):
        Home.from_environment()


def test_the_home_of_a_user_who_does_not_exist_is_a_config_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENFERRY_HOME", "~no-such-user-here/keys")
    with pytest.raises(ConfigError, match="TOKENFERRY_HOME"):
        Home.from_environment()


def test_everything_lies_inside_the_home(tmp_path: Path) -> None:
    home = Home(tmp_path)
    places = [home.config, home.accounts, home.journal, home.locks, home.state, home.local_key, home.active]
    assert [place.name for place in places] == [
        "config.toml",
        "accounts",
        "journal",
        "locks",
        "state.db",
        "local.key",
        "active",
    ]
    assert {place.parent for place in places} == {tmp_path}


@pytest.mark.parametrize("section", [ServerSettings, RouterSettings, PolicySettings, RefreshSettings])
def test_settings_are_frozen(section: type[Struct]) -> None:
    settings = section()
    for field in settings.__struct_fields__:
        with pytest.raises(AttributeError, match="immutable"):
            setattr(settings, field, None)


def test_a_subscription_serves_no_program_by_default() -> None:
    assert PolicySettings().subscriptions == "claude-code-only"


def test_the_gateway_listens_on_loopback_unless_said_otherwise() -> None:
    assert ServerSettings().host == "127.0.0.1"
