"""Where things are, and what the configuration can say: one frozen class per section."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tokenferry.errors import ConfigError

__all__ = [
    "GatewaySettings",
    "Home",
    "PolicySettings",
    "RefreshSettings",
    "ServerSettings",
]


@dataclass(frozen=True, slots=True)
class Home:
    """The folder of all that tokenferry keeps (0700), and the names in it."""

    path: Path

    @classmethod
    def from_environment(cls) -> "Home":
        """TOKENFERRY_HOME, else the platform's place. Raises `ConfigError` when there is no home directory."""
        try:
            if named := os.environ.get("TOKENFERRY_HOME"):
                return cls(Path(named).expanduser().absolute())
            if sys.platform == "win32" and (roaming := os.environ.get("APPDATA")):
                return cls(Path(roaming) / "tokenferry")
            return cls(Path.home() / ".config" / "tokenferry")
        except RuntimeError:
            raise ConfigError("no home directory is known here; set HOME, or TOKENFERRY_HOME to a folder") from None

    @property
    def config(self) -> Path:
        return self.path / "config.toml"

    @property
    def accounts(self) -> Path:
        return self.path / "accounts"

    @property
    def attached(self) -> Path:
        """Holds the accounts whose credential rests in another program's store."""
        return self.path / "attached"

    @property
    def journal(self) -> Path:
        return self.path / "journal"

    @property
    def locks(self) -> Path:
        return self.path / "locks"

    @property
    def state(self) -> Path:
        return self.path / "state.db"

    @property
    def local_key(self) -> Path:
        return self.path / "local.key"

    @property
    def active(self) -> Path:
        """Holds the name of the account in `use`."""
        return self.path / "active"


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """`[server]`: where the gateway listens, and which `Host` names besides its own it answers to."""

    host: str = "127.0.0.1"
    port: int = 13456
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    allowed_hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """`[gateway]`: one account for everything, or the order of providers."""

    account: str | None = None
    providers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """`[policy]`: whether credentials billed to a Claude subscription may be handed to anything but Claude Code."""

    subscription: Literal["off", "own"] = "off"


@dataclass(frozen=True, slots=True)
class RefreshSettings:
    """When our own chains are refreshed, and how long anybody waits. All in seconds."""

    advisory: float = 300.0
    """Less left than this: one caller refreshes, the others use the old token."""
    mandatory: float = 30.0
    """Less left than this: callers wait for the refresh."""
    wait: float = 60.0
    """The longest a caller waits for a refresh, its own or somebody else's."""
    timeout: float = 30.0
    """The longest one grant request takes."""
    settle: float = 60.0
    """A token that a grant of ours minted more recently than this is not refreshed again because it was refused."""
    watch: float = 0.5
    """How often a long-lived process looks for documents changed by others."""
