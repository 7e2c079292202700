import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tokenferry.secret import parse_object


@dataclass(frozen=True, slots=True)
class Place:
    """Where a key rests: in a file, or in the system's keyring if there is no path."""

    path: Path | None = None

    def __str__(self) -> str:
        return "the system's keyring" if self.path is None else str(self.path)


@dataclass(frozen=True, slots=True)
class Marker:
    """Says that a home is sealed, with which key, and where that rests. It holds no secret.

    The first key seals; others are of a rotation that is under way or was cut short. While a home is being unsealed
    (`is_opening`) what is written is written in clear.
    """

    keys: tuple[tuple[str, Place], ...]
    """By id."""
    is_opening: bool = False

    @property
    def current(self) -> str:
        return self.keys[0][0]

    @property
    def place(self) -> Place:
        return self.keys[0][1]

    def place_of(self, key: str) -> Place | None:
        return dict(self.keys).get(key)

    def to_bytes(self) -> bytes:
        keys = [{"id": key, "file": place.path and str(place.path)} for key, place in self.keys]
        return json.dumps({"version": 1, "keys": keys, "opening": self.is_opening}, indent=1).encode("ascii") + b"\n"

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self | None:
        """Read what `to_bytes` wrote; None for anything else."""
        fields = parse_object(raw)
        keys: Any = None if fields is None else fields.get("keys")
        if fields is None or fields.get("version") != 1 or not isinstance(keys, list) or not keys:
            return None
        try:
            return cls(tuple((str(one["id"]), _place(one["file"])) for one in keys), fields.get("opening") is True)
        except (KeyError, TypeError, ValueError):
            return None


def _place(file: object) -> Place:
    if file is None:
        return Place()
    if not isinstance(file, str) or not Path(file).is_absolute():
        raise ValueError("no path")
    return Place(Path(file))
