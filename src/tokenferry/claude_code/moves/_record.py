import json
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import asdict

from tokenferry.errors import CorruptFile
from tokenferry.secret import parse_object
from tokenferry.stores import DISK, Disk, remove_file, remove_leftovers, replace_private_file

Step: TypeAlias = Literal["preparing", "writing"]

_VERSION: Final = 1
_TYPES: Final[dict[str, Any]] = {
    "to": str,
    "home": str | None,
    "step": str,
    "place": str,
    "config_dir": str | None,
    "present": str | None,
    "coming": str,
    "account_id": str | None,
    "organization_id": str | None,
    "at": int,
}


class MoveRecord(Struct, frozen=True):
    """The progress of a move, written before each step that depends on it, without any secret.

    During `preparing`, nothing that counts has changed. From `writing` on, the other program's document may be the
    new one. `at` is in seconds since 1970 UTC.
    """

    to: str
    """The account whose login the other program gets."""
    home: str | None
    """The account whose login was there, and is brought home."""
    step: Step
    place: str
    """Where the other program's login is stored, as text for people."""
    config_dir: str | None
    """Its folder, if that isn't the default one."""
    present: str | None
    """The sha256 of the two tokens that were there; None without a login."""
    coming: str
    """The sha256 of the two tokens that are to be there."""
    account_id: str | None
    organization_id: str | None
    """The vendor's account of the login that `to` brings."""
    at: int


class MoveFile:
    """The record of the one move that is under way, or was interrupted."""

    def __init__(self, path: Path, *, disk: Disk = DISK) -> None:
        self.path = path
        self._disk = disk

    def read(self) -> MoveRecord | None:
        """Read the record; None without one. Raises `CorruptFile`, `UnsafeFile`."""
        try:
            fields = parse_object(self._disk.read(self.path))
        except FileNotFoundError:
            return None
        if fields is not None and fields.get("version") == _VERSION and fields.get("step") in {"preparing", "writing"}:
            values: dict[str, Any] = {key: fields.get(key) for key in _TYPES}
            if all(isinstance(values[key], kind) for key, kind in _TYPES.items()):
                return MoveRecord(**values)
        raise CorruptFile(
            f"{self.path} can't be understood, so an interrupted move can't be completed; find out with `claude auth "
            "status` whose login Claude Code has, then remove the file"
        )

    def write(self, record: MoveRecord) -> None:
        """Write the record durably. Raises `StorageFailed`."""
        remove_leftovers(self.path, disk=self._disk)
        data = json.dumps({"version": _VERSION, **asdict(record)}, indent=1).encode("ascii") + b"\n"
        replace_private_file(self.path, data, disk=self._disk)

    def remove(self) -> None:
        """Remove the record: the move has ended. Raises `StorageFailed`."""
        remove_file(self.path, disk=self._disk)
