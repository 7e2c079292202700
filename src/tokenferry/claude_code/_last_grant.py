import json
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from tokenferry.claude_code._document import digest
from tokenferry.credentials import OAuthToken
from tokenferry.errors import TokenferryError
from tokenferry.secret import parse_object
from tokenferry.stores import DISK, Disk, replace_private_file

_KINDS: Final[dict[str, type]] = {"email": str, "obtained_at": int, "lifetime": int, "source": str}


class LastGrant:
    """The fields of a grant that Claude Code's document has no place for, in a file that all our processes read.

    The tokens' digest binds it to them, so that it never describes other tokens. It is optional: without it a token
    counts as one that another program wrote.
    """

    def __init__(self, file: Path, *, disk: Disk = DISK) -> None:
        self._file = file
        self._disk = disk
        self._known: tuple[str, dict[str, Any]] = ("", {})

    def keep(self, token: OAuthToken) -> None:
        """Store it. Call this before the tokens are written, so that no reader sees them without it."""
        known = (digest(token), {name: getattr(token, name) for name in _KINDS})
        if known == self._known:
            return
        self._known = known
        try:
            data = json.dumps({"tokens": known[0]} | known[1]).encode("ascii")
            replace_private_file(self._file, data, disk=self._disk)
        except TokenferryError:  # then only this process knows it
            return

    def complete(self, token: OAuthToken) -> OAuthToken:
        """The token with the fields of its grant."""
        known, wanted = self._known, digest(token)
        if known[0] != wanted:
            known = self._read()
        return replace(token, **known[1]) if known[0] == wanted else token

    def _read(self) -> tuple[str, dict[str, Any]]:
        try:
            fields = parse_object(self._disk.read(self._file))
        except (FileNotFoundError, TokenferryError):
            fields = None
        found = {name: None if fields is None else fields.get(name) for name in _KINDS}
        is_sound = all(value is None or type(value) is _KINDS[name] for name, value in found.items())
        if fields is None or not is_sound or not isinstance(fields.get("tokens"), str):
            return "", {}
        self._known = (fields["tokens"], found)
        return self._known
