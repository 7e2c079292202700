import hmac
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Self

from msgspec import Struct
from msgspec.structs import replace

from tokenferry.sealing._key import SealKey
from tokenferry.secret import parse_object

_PURPOSE: Final = b"tokenferry marker\n"


class KeyPlace(Struct, frozen=True):
    """Where a key is stored: in a file, or in the system's keyring if there is no path."""

    path: Path | None = None

    def __str__(self) -> str:
        return "the system's keyring" if self.path is None else str(self.path)


class Marker(Struct, frozen=True):
    """Says that a home is sealed, with which key, and where the key is stored. It has no secret.

    The first key seals; the others belong to a rotation that is under way or was interrupted. Each key signs the whole
    marker (`signed`), so that changing it takes all the keys.
    """

    keys: tuple[tuple[str, KeyPlace], ...]
    """By id."""
    is_opening: bool = False
    """The home is being unsealed: documents may be in clear text, and new ones are."""
    is_complete: bool = True
    """Every document is sealed, so one in clear text isn't from this home. False while the home is being sealed."""
    tags: tuple[str, ...] = ()
    """The signature of each key, in their order. None in a marker of version 1, which had no signatures."""

    @property
    def current(self) -> str:
        return self.keys[0][0]

    @property
    def place(self) -> KeyPlace:
        return self.keys[0][1]

    def place_of(self, key: str) -> KeyPlace | None:
        return dict(self.keys).get(key)

    def signed(self, keys: Iterable[SealKey]) -> Self:
        """The marker with the signatures of its keys, which are given in its order."""
        return replace(self, tags=tuple(self._tag(key) for key in keys))

    def is_signed_by(self, key: SealKey) -> bool:
        """Whether this key is one of the marker's, and its signature matches the marker."""
        tags = {name: tag for (name, _), tag in zip(self.keys, self.tags, strict=False)}
        return hmac.compare_digest(tags.get(key.id, "").encode("ascii", "replace"), self._tag(key).encode("ascii"))

    def _tag(self, key: SealKey) -> str:
        payload = json.dumps(self._fields(), sort_keys=True, separators=(",", ":")).encode("ascii")
        return hmac.digest(key.bits(), _PURPOSE + payload, "sha256").hex()

    def _fields(self) -> dict[str, Any]:
        keys = [{"id": key, "file": place.path and str(place.path)} for key, place in self.keys]
        return {"version": 2, "keys": keys, "opening": self.is_opening, "complete": self.is_complete}

    def to_bytes(self) -> bytes:
        fields = {**self._fields(), "tags": list(self.tags)}
        if not self.tags:
            fields = {"version": 1, "keys": fields["keys"], "opening": self.is_opening}
        return json.dumps(fields, indent=1).encode("ascii") + b"\n"

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self | None:
        """Read the output of `to_bytes`, of this version or of version 1; None for anything else.

        A signed marker that differs from `to_bytes` in any byte loses its signatures.
        """
        fields = parse_object(raw)
        keys: Any = None if fields is None else fields.get("keys")
        if fields is None or fields.get("version") not in {1, 2} or not isinstance(keys, list) or not keys:
            return None
        try:
            places = tuple((str(one["id"]), _place(one["file"])) for one in keys)
        except (KeyError, TypeError, ValueError):
            return None
        is_opening = fields.get("opening") is True
        if fields["version"] == 1:
            return cls(places, is_opening)
        tags = fields.get("tags")
        found = cls(
            places,
            is_opening,
            fields.get("complete") is True,
            tuple(str(tag) for tag in tags) if isinstance(tags, list) else (),
        )
        return found if found.to_bytes() == raw else replace(found, tags=("",))


def _place(file: object) -> KeyPlace:
    if file is None:
        return KeyPlace()
    if not isinstance(file, str) or not Path(file).is_absolute():
        raise ValueError("no path")
    return KeyPlace(Path(file))
