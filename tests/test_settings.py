from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from tokenferry.errors import ConfigError
from tokenferry.settings import Home, PolicySettings, RefreshSettings, RouterSettings, ServerSettings


def test_tokenferry_home_names_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TOKENFERRY_HOME", str(tmp_path))
    assert Home.from_environment().path == tmp_path


def test_a_relative_home_is_made_absolute_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOKENFERRY_HOME", "here")
    assert Home.from_environment().path == tmp_path / "here"


def test_a_tilde_is_the_home_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TOKENFERRY_HOME", "~/keys")
    assert Home.from_environment().path == tmp_path / "keys"


@pytest.mark.parametrize("unset", ["", None])
def test_the_default_is_below_dot_config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, unset: str | None) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    if unset is None:
        monkeypatch.delenv("TOKENFERRY_HOME")
    else:
        monkeypatch.setenv("TOKENFERRY_HOME", unset)
    assert Home.from_environment().path == tmp_path / ".config" / "tokenferry"


def test_windows_has_a_place_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.delenv("TOKENFERRY_HOME")
    monkeypatch.setenv("APPDATA", str(tmp_path))
    assert Home.from_environment().path == tmp_path / "tokenferry"


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
def test_settings_are_frozen(section: type) -> None:
    settings = section()
    for field in fields(section):
        with pytest.raises(FrozenInstanceError):
            setattr(settings, field.name, None)


def test_a_subscription_is_served_to_nobody_unless_said_otherwise() -> None:
    assert PolicySettings().subscriptions == "claude-code-only"


def test_the_gateway_listens_on_loopback_unless_said_otherwise() -> None:
    assert ServerSettings().host == "127.0.0.1"
