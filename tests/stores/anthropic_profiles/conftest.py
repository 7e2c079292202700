from pathlib import Path

import pytest

from stores.anthropic_profiles.rig import PROFILE, Profiles
from tokenferry.stores.anthropic_profiles import AnthropicProfileStore, profile_account


@pytest.fixture
def profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Profiles:
    """An empty folder of profiles, which the SDK of this process looks into as well."""
    folder = tmp_path / "profiles"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("ANTHROPIC_CONFIG_DIR", str(folder))
    return Profiles(folder)


@pytest.fixture
def store(profiles: Profiles, tmp_path: Path) -> AnthropicProfileStore:
    account = profile_account("mine", "console", profiles.folder, PROFILE, created_at=1)
    return AnthropicProfileStore.of(account, tmp_path / "locks")
