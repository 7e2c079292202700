import unicodedata
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final

from msgspec import Struct

from tokenferry.errors import ConfigError

_VARIABLES: Final = ("CLAUDE_SECURESTORAGE_CONFIG_DIR", "CLAUDE_CONFIG_DIR")
_SERVICE: Final = "Claude Code-credentials"


class ClaudeCodeHome(Struct, frozen=True):
    """The folder in which Claude Code keeps its login, and the names it uses there.

    `variable` is the raw value of the environment variable that names the folder; None for the default one.
    """

    path: Path
    variable: str | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], home: Path) -> "ClaudeCodeHome":
        """The folder a Claude Code of this environment uses; `home` is the person's home directory.

        Raises `ConfigError` for a value that makes the folder depend on where a program is started.
        """
        storage, configuration = (environ.get(name) for name in _VARIABLES)
        if storage == "" or (storage is None and configuration is None):
            return cls(home / ".claude")
        name, value = (_VARIABLES[0], storage) if storage else (_VARIABLES[1], configuration or "")
        if not value.startswith("/"):
            raise ConfigError(
                f"{name} is {value!r}, so Claude Code looks for its login in whatever folder it is started in; "
                "unset it, or set it to an absolute path"
            )
        return cls(Path(unicodedata.normalize("NFC", value)), value)

    @classmethod
    def of_label(cls, label: str, home: Path) -> "ClaudeCodeHome":
        """The folder that this label of an account names."""
        path = Path(unicodedata.normalize("NFC", label))
        return cls(path, None if label == str(home / ".claude") else label)

    @property
    def label(self) -> str:
        """The folder's name in an account: exactly as Claude Code gets it, because that names the Keychain's item."""
        return str(self.path) if self.variable is None else self.variable

    def is_at(self, label: str) -> bool:
        """Whether this label names the folder."""
        return label == self.label or Path(label).resolve() == self.path.resolve()

    @property
    def credentials(self) -> Path:
        return self.path / ".credentials.json"

    @property
    def refresh_lock(self) -> Path:
        """The first of the two lock directories that a refresh takes."""
        return self.path / ".oauth_refresh.lock"

    @property
    def refresh_lock_owner(self) -> Path:
        """Where the holder of `refresh_lock` may note its process."""
        return self.path / ".oauth_refresh.lock.owner"

    @property
    def folder_lock(self) -> Path:
        """The second lock directory, beside the folder; older versions take only this one."""
        real = self.path.resolve()
        return real.with_name(f"{real.name}.lock")

    @property
    def write_lock(self) -> Path:
        """The lock directory that every write of the credentials takes."""
        return self.path / ".storage-write.lock"

    @property
    def keychain_service(self) -> str:
        """The service name of the macOS Keychain item."""
        if self.variable is None:
            return _SERVICE
        normal = unicodedata.normalize("NFC", self.variable)
        return f"{_SERVICE}-{sha256(normal.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"
