"""The folder of the profiles of the official SDKs and the `ant` command, and the rules for their names."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from tokenferry.errors import ConfigError, UnsafeFile, UsageError

DEFAULT_PROFILE: Final = "default"
FOLDER_VARIABLE: Final = "ANTHROPIC_CONFIG_DIR"
PROFILE_VARIABLE: Final = "ANTHROPIC_PROFILE"
_SUFFIX: Final = ".json"


def check_profile_name(name: str, source: str = "a profile's name") -> str:
    """Return the name if the SDKs accept it. Raises `UsageError`; `source` is where it was read."""
    if not name:
        fault = "must not be empty"
    elif name != name.strip():
        fault = "must not begin or end with a blank"
    elif name.startswith("."):
        fault = "must not begin with a dot"
    elif "/" in name or "\\" in name:
        fault = "must not hold / or \\"
    elif not name.isprintable():
        fault = "must be printable"
    else:
        return name
    raise UsageError(f"{source} {fault}, and {name[:80]!r} is none")


class ProfileFolder(Struct, frozen=True):
    """The folder that ANTHROPIC_CONFIG_DIR names, and the names in it."""

    path: Path

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str], home: Path, *, platform: str = sys.platform
    ) -> "ProfileFolder":
        """Give the folder for programs in this environment; `home` is the home directory.

        Raises `ConfigError` for a relative path, which would depend on where a program starts.
        """
        if named := environ.get(FOLDER_VARIABLE):
            if not Path(named).is_absolute():
                raise ConfigError(
                    f"{FOLDER_VARIABLE} is {named!r}, so programs look for their profile in whatever folder they are "
                    "started in; unset it, or set it to an absolute path"
                )
            return cls(Path(named))
        if platform == "win32":
            return cls(Path(environ.get("APPDATA") or home / "AppData" / "Roaming") / "Anthropic")
        return cls(home / ".config" / "anthropic")

    def config(self, profile: str) -> Path:
        """The file with the profile's way to authenticate, without secrets. Raises `UsageError`, `UnsafeFile`."""
        return self._inside(self.path / "configs" / f"{check_profile_name(profile)}{_SUFFIX}")

    def credentials(self, profile: str) -> Path:
        """The file with the profile's tokens. Raises `UsageError`, `UnsafeFile`."""
        return self._inside(self.path / "credentials" / f"{check_profile_name(profile)}{_SUFFIX}")

    @property
    def pointer(self) -> Path:
        """The file with the name of the active profile."""
        return self.path / "active_config"

    def pointed(self) -> str | None:
        """Give the profile that `active_config` names; None if it is missing or blank."""
        try:
            if not self.pointer.is_file():  # opening a FIFO would wait for its other end
                return None
            return self.pointer.read_text(encoding="utf-8").strip() or None
        except (OSError, UnicodeDecodeError):
            return None

    def active(self, environ: Mapping[str, str]) -> str:
        """Give the profile of this environment: ANTHROPIC_PROFILE, else `active_config`, else `default`.

        Raises `UsageError` for a name that the SDKs refuse.
        """
        if named := environ.get(PROFILE_VARIABLE):
            return check_profile_name(named, PROFILE_VARIABLE)
        pointed = self.pointed()
        return DEFAULT_PROFILE if pointed is None else check_profile_name(pointed, f"the name in {self.pointer}")

    def profiles(self) -> list[str]:
        """Give the profiles that have a configuration, sorted."""
        try:
            return sorted(path.stem for path in (self.path / "configs").glob(f"[!.]*{_SUFFIX}"))
        except OSError:
            return []

    def _inside(self, path: Path) -> Path:
        try:
            if path.resolve().is_relative_to(self.path.resolve()):
                return path
        except (OSError, RuntimeError):  # links in a circle
            raise UnsafeFile(f"{path} can't be examined; put a plain file there") from None
        raise UnsafeFile(f"{path} is a link that leads out of {self.path}; put the file itself there")
