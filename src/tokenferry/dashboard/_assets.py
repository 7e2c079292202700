"""The files that pages load, each named by its content, so that browsers can cache it forever."""

import gzip
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final

from msgspec import Struct

FOLDER: Final = Path(__file__).parent / "static"
PREFIX: Final = "/dashboard/static/"
_KINDS: Final = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
_DIGITS: Final = 16


class Asset(Struct, frozen=True):
    content: bytes
    compressed: bytes
    """By gzip."""
    kind: str


class Assets:
    """The files below a folder. `packaged_assets` reads those of the dashboard once."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._names: dict[str, str] = {}
        self._files: dict[str, Asset] = {}
        for path in sorted(folder.rglob("*")):
            if path.suffix in _KINDS:
                content = path.read_bytes()
                name = f"{sha256(content).hexdigest()[:_DIGITS]}.{path.name}"
                self._names[path.name] = name
                self._files[name] = Asset(content, gzip.compress(content, mtime=0), _KINDS[path.suffix])

    def url(self, name: str) -> str:
        """Return the path at which a file is served. Raises `KeyError`."""
        return PREFIX + self._names[name]

    @property
    def files(self) -> Mapping[str, Asset]:
        """The files by the name under which they are served."""
        return self._files


@cache
def packaged_assets() -> Assets:
    """Return the files of the dashboard: reading and compressing them takes longer than to build all else of it."""
    return Assets()
