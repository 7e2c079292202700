import os
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from anthropic import AnthropicError

from stores.anthropic_profiles.rig import (
    ACCESS,
    EXPIRES,
    FEDERATION,
    LOGIN,
    PROFILE,
    REFRESH,
    ROTATED,
    Profiles,
    by_the_sdk,
    write,
)
from tokenferry.credentials import OAuthToken
from tokenferry.errors import CorruptFile, NeedsLogin, TokenferryError, UnknownAccount, UnsafeFile, UsageError
from tokenferry.secret import Secret
from tokenferry.stores import Account, Store
from tokenferry.stores.anthropic_profiles import AnthropicProfileStore, ProfileFolder, profile_account


def test_it_is_a_store(store: AnthropicProfileStore) -> None:
    a_store: Store = store
    assert a_store.names() == []


def test_a_login_is_a_document_owned_by_ant(store: AnthropicProfileStore, profiles: Profiles) -> None:
    profiles.config(organization_id="org", workspace_id="wrkspc")
    profiles.credentials(expires_at=EXPIRES * 1000)
    document = store.read("mine")
    assert store.names() == ["mine"]
    assert document.account.owner == "ant"
    assert document.account.store == "anthropic-profile"
    assert document.account.labels == {
        "profile": PROFILE,
        "config_dir": str(profiles.path),
        "workspace": "wrkspc",
    }
    token = document.credential
    assert isinstance(token, OAuthToken)
    assert (token.secret, token.refresh) == (Secret(ACCESS), Secret(REFRESH))
    assert (token.expires_at, token.organization_id) == (EXPIRES, "org")


def test_the_owner_follows_the_profile(store: AnthropicProfileStore, profiles: Profiles) -> None:
    profiles.config(ROTATED)
    profiles.credentials()
    assert store.read("mine").account.owner == "external"
    profiles.config(LOGIN)
    assert store.read("mine").account.owner == "ant"
    profiles.config(FEDERATION)
    assert store.read("mine").account.owner == "external"


def test_the_generation_and_the_stamp_follow_the_token(store: AnthropicProfileStore, profiles: Profiles) -> None:
    assert store.stamps() == {}
    profiles.config()
    profiles.credentials()
    document, stamps = store.read("mine"), store.stamps()
    assert store.stamps() == stamps
    assert store.read("mine").generation == document.generation
    profiles.credentials(access_token=ACCESS + "2")
    assert store.read("mine").generation != document.generation
    assert store.stamps() != stamps
    assert set(stamps) == {"mine"}


def test_without_a_configuration_those_that_are_there_are_named(
    store: AnthropicProfileStore, profiles: Profiles
) -> None:
    with pytest.raises(NeedsLogin, match=r"\(there are: none\); log in with: ant auth login --profile work"):
        store.read("mine")
    profiles.config(name="default")
    with pytest.raises(NeedsLogin, match=r"there is no profile 'work' \(there are: default\)"):
        store.read("mine")


@pytest.mark.parametrize(
    ("authentication", "cure"),
    [
        (LOGIN, "log in with: ant auth login --profile work"),
        (ROTATED, "the program that writes this profile has to write it again"),
        (FEDERATION, "tokenferry does not exchange workload identities"),
    ],
)
@pytest.mark.parametrize("is_there", [True, False])
def test_without_a_token_the_owners_cure_is_reported(
    store: AnthropicProfileStore, profiles: Profiles, authentication: dict[str, Any], cure: str, *, is_there: bool
) -> None:
    profiles.config(authentication)
    if is_there:
        profiles.credentials(access_token="")
    with pytest.raises(NeedsLogin, match=cure):
        store.read("mine")
    assert store.names() == ["mine"]


def test_a_cached_token_of_a_workload_identity_is_read(store: AnthropicProfileStore, profiles: Profiles) -> None:
    profiles.config(FEDERATION, organization_id="org")
    profiles.credentials(refresh_token=...)
    assert store.read("mine").credential.secret == Secret(ACCESS)


@pytest.mark.parametrize(("file", "mode"), [("credentials", 0o640), ("credentials", 0o604), ("configs", 0o664)])
def test_a_file_that_the_sdk_refuses_for_its_mode_is_refused(
    store: AnthropicProfileStore, profiles: Profiles, file: str, mode: int
) -> None:
    profiles.config(ROTATED)
    profiles.credentials()
    path = profiles.path / file / f"{PROFILE}.json"
    path.chmod(mode)
    with pytest.raises(AnthropicError):
        by_the_sdk()
    with pytest.raises(UnsafeFile, match="chmod"):
        store.read("mine")


def test_a_link_in_place_of_the_credentials_is_refused(store: AnthropicProfileStore, profiles: Profiles) -> None:
    profiles.config(ROTATED)
    path = profiles.credentials()
    path.rename(path.with_name("real.json"))
    path.symlink_to("real.json")
    with pytest.raises(AnthropicError):
        by_the_sdk()
    with pytest.raises(UnsafeFile, match="symbolic link"):
        store.read("mine")


def test_a_configuration_may_be_a_link_within_the_folder(store: AnthropicProfileStore, profiles: Profiles) -> None:
    path = profiles.config(ROTATED)
    path.rename(path.with_name("real.json"))
    path.symlink_to("real.json")
    profiles.credentials()
    assert store.read("mine").credential.secret == Secret(by_the_sdk().token)


def test_a_pipe_in_place_of_a_file_is_refused_and_not_waited_for(
    store: AnthropicProfileStore, profiles: Profiles
) -> None:
    profiles.config(ROTATED)
    (profiles.path / "credentials").mkdir(mode=0o700)
    os.mkfifo(profiles.path / "credentials" / f"{PROFILE}.json", 0o600)
    with pytest.raises(UnsafeFile, match="not a regular file"):
        store.read("mine")


def test_credentials_elsewhere_are_read_there(store: AnthropicProfileStore, profiles: Profiles, tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "tokens.json", {"access_token": ACCESS})
    profiles.config(ROTATED | {"credentials_path": str(tmp_path / "elsewhere" / "tokens.json")})
    assert store.read("mine").credential.secret == Secret(by_the_sdk().token)
    before = store.stamps()
    write(tmp_path / "elsewhere" / "tokens.json", {"access_token": ACCESS + "2"})
    assert store.stamps() != before


def test_credentials_at_no_absolute_path_are_refused(store: AnthropicProfileStore, profiles: Profiles) -> None:
    profiles.config(ROTATED | {"credentials_path": "tokens.json"})
    with pytest.raises(CorruptFile, match="credentials_path is not an absolute path"):
        store.read("mine")
    assert set(store.stamps()) == {"mine"}


def test_nothing_is_ever_written(store: AnthropicProfileStore, profiles: Profiles) -> None:
    profiles.config()
    path = profiles.credentials()
    before = path.read_bytes()
    document = store.read("mine")
    with store.exclusive("mine", 1.0):
        for new in (document, None):
            with pytest.raises(UsageError, match="which alone changes it"):
                store.swap("mine", document.generation, new)
        with pytest.raises(UsageError, match="which alone changes it"):
            store.discard("mine")
    assert path.read_bytes() == before
    assert sorted(one.name for one in profiles.path.iterdir()) == ["configs", "credentials"]


def test_it_knows_its_own_account_alone(store: AnthropicProfileStore, profiles: Profiles) -> None:
    profiles.config()
    profiles.credentials()
    with pytest.raises(UnknownAccount):
        store.read("other")
    with pytest.raises(UnknownAccount):
        store.lock("other")


@pytest.mark.parametrize("labels", [{}, {"profile": "work"}, {"config_dir": "/x"}])
def test_an_account_that_names_no_profile_is_reported(labels: dict[str, str], tmp_path: Path) -> None:
    account = Account("mine", "console", "oauth", store="anthropic-profile", labels=MappingProxyType(labels))
    with pytest.raises(CorruptFile, match="tokenferry account remove mine"):
        AnthropicProfileStore.of(account, tmp_path)


def test_a_bad_profile_name_is_an_error_of_reading(tmp_path: Path) -> None:
    account = profile_account("mine", "console", ProfileFolder(tmp_path), "../evil", created_at=1)
    store = AnthropicProfileStore.of(account, tmp_path / "locks")
    with pytest.raises(TokenferryError):
        store.read("mine")
