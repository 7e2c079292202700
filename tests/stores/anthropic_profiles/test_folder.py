import contextlib
import os
from pathlib import Path

import pytest
from anthropic import AnthropicError
from anthropic.lib.credentials._constants import _active_profile, _config_dir, _validate_profile_name
from hypothesis import given
from hypothesis import strategies as st

from stores.anthropic_profiles.rig import Profiles
from tokenferry.errors import ConfigError, TokenferryError, UnsafeFile, UsageError
from tokenferry.stores.anthropic_profiles import ProfileFolder, check_profile_name

HOME = Path("/home/person")


@pytest.mark.parametrize(
    ("environ", "platform", "path"),
    [
        ({}, "linux", "/home/person/.config/anthropic"),
        ({}, "darwin", "/home/person/.config/anthropic"),
        ({"ANTHROPIC_CONFIG_DIR": ""}, "linux", "/home/person/.config/anthropic"),
        ({"ANTHROPIC_CONFIG_DIR": "/elsewhere"}, "linux", "/elsewhere"),
        ({"APPDATA": "/roaming"}, "win32", "/roaming/Anthropic"),
        ({}, "win32", "/home/person/AppData/Roaming/Anthropic"),
    ],
)
def test_the_folder_is_the_one_the_sdks_use(environ: dict[str, str], platform: str, path: str) -> None:
    assert ProfileFolder.from_environment(environ, HOME, platform=platform).path == Path(path)


def test_it_is_the_one_this_sdk_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ProfileFolder.from_environment({}, Path.home()).path == _config_dir()
    monkeypatch.setenv("ANTHROPIC_CONFIG_DIR", "/elsewhere")
    assert ProfileFolder.from_environment({"ANTHROPIC_CONFIG_DIR": "/elsewhere"}, HOME).path == _config_dir()


def test_a_folder_that_depends_on_where_a_program_starts_is_refused() -> None:
    with pytest.raises(ConfigError, match="ANTHROPIC_CONFIG_DIR is 'profiles'"):
        ProfileFolder.from_environment({"ANTHROPIC_CONFIG_DIR": "profiles"}, HOME)


@given(st.text(st.sampled_from("aB9._-/\\ \t\n\0äé@"), max_size=8))
def test_no_name_that_the_sdk_refuses_is_taken(name: str) -> None:
    with contextlib.suppress(UsageError):
        check_profile_name(name)
        _validate_profile_name(name)


@pytest.mark.parametrize("name", ["default", "work.2", "Ärger", "a b", "me@example.com", "x" * 200])
def test_usual_names_are_taken(name: str) -> None:
    assert check_profile_name(name) == name


@pytest.mark.parametrize("name", ["", " a", "a ", ".a", "a/b", "a\\b", "a\0b", "a\nb", ".."])
def test_a_bad_name_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(UsageError, match="a profile's name must"):
        check_profile_name(name)


@pytest.mark.parametrize("variable", [None, "", "named"])
@pytest.mark.parametrize("pointer", [None, "", "pointed\n", " \n"])
def test_the_active_profile_is_the_one_the_sdk_takes(
    profiles: Profiles, monkeypatch: pytest.MonkeyPatch, variable: str | None, pointer: str | None
) -> None:
    environ = {} if variable is None else {"ANTHROPIC_PROFILE": variable}
    if variable is not None:
        monkeypatch.setenv("ANTHROPIC_PROFILE", variable)
    if pointer is not None:
        profiles.folder.pointer.write_text(pointer)
    assert profiles.folder.active(environ) == _active_profile()
    assert profiles.folder.active(environ) == (variable or (pointer or "").strip() or "default")


def test_an_active_profile_of_a_bad_name_is_reported_with_its_place(profiles: Profiles) -> None:
    profiles.folder.pointer.write_text("../evil")
    with pytest.raises(UsageError, match=r"the name in .*active_config must not begin with a dot"):
        profiles.folder.active({})
    with pytest.raises(UsageError, match="ANTHROPIC_PROFILE must not hold /"):
        profiles.folder.active({"ANTHROPIC_PROFILE": "a/b"})
    with pytest.raises(AnthropicError):
        _active_profile()


def test_a_pipe_in_place_of_the_pointer_names_none_and_does_not_hang(profiles: Profiles) -> None:
    os.mkfifo(profiles.folder.pointer)
    assert profiles.folder.active({}) == "default"


def test_a_link_out_of_the_folder_is_not_followed(profiles: Profiles, tmp_path: Path) -> None:
    outside = tmp_path / "outside.json"
    outside.write_text("{}")
    (profiles.path / "configs").mkdir()
    (profiles.path / "configs" / "work.json").symlink_to(outside)
    with pytest.raises(UnsafeFile, match="leads out of"):
        profiles.folder.config("work")
    (profiles.path / "configs" / "round.json").symlink_to(profiles.path / "configs" / "round.json")
    with contextlib.suppress(TokenferryError):  # what links in a circle resolve to depends on the version of Python
        profiles.folder.config("round")


def test_profiles_are_listed_by_their_configurations(profiles: Profiles) -> None:
    assert profiles.folder.profiles() == []
    profiles.config(name="b")
    profiles.config(name="a")
    profiles.credentials(name="c")
    assert profiles.folder.profiles() == ["a", "b"]
