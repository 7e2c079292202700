"""Profiles as the SDKs and `ant` write them, and the SDK itself as the judge of ours."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from anthropic.lib.credentials import AccessToken, CredentialsFile

from tokenferry.stores.anthropic_profiles import ProfileFolder

PROFILE: Final = "work"
ACCESS: Final = "sk-ant-oat01-" + "A" * 80
REFRESH: Final = "sk-ant-ort01-" + "R" * 80
EXPIRES: Final = 1_900_000_000
ROTATED: Final[dict[str, Any]] = {"type": "user_oauth"}
LOGIN: Final[dict[str, Any]] = {"type": "user_oauth", "client_id": "some-client"}
FEDERATION: Final[dict[str, Any]] = {"type": "oidc_federation", "federation_rule_id": "rule"}


def write(path: Path, data: Any, mode: int = 0o600) -> Path:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
    path.chmod(mode)
    return path


@dataclass(frozen=True)
class Profiles:
    path: Path

    @property
    def folder(self) -> ProfileFolder:
        return ProfileFolder(self.path)

    def config(self, authentication: Any = None, name: str = PROFILE, **more: Any) -> Path:
        found = {"authentication": LOGIN if authentication is None else authentication, **more}
        return write(self.path / "configs" / f"{name}.json", found, 0o644)

    def credentials(self, name: str = PROFILE, **changes: Any) -> Path:
        fields = {
            "version": "1.0",
            "type": "oauth_token",
            "access_token": ACCESS,
            "refresh_token": REFRESH,
            "expires_at": EXPIRES,
        }
        content = {key: value for key, value in (fields | changes).items() if value is not ...}
        return write(self.path / "credentials" / f"{name}.json", content)


def by_the_sdk(profile: str = PROFILE) -> AccessToken:
    """What a program of the SDK would send; raises what it raises."""
    provider = CredentialsFile(profile)
    try:
        return provider()
    finally:
        provider.close()
