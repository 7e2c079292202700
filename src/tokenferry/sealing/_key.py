import re
import secrets
from typing import Final, Self

from msgspec import Struct

from tokenferry.secret import HiddenBytes, Secret

_PREFIX: Final = "tfs_"
_FORM: Final = re.compile(_PREFIX + "[0-9a-f]{64}")


class SealKey(Struct, frozen=True):
    """256 random bits, written as `tfs_` and 64 hex digits."""

    secret: Secret

    @classmethod
    def new(cls) -> Self:
        return cls(Secret(_PREFIX + secrets.token_hex(32)))

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read a key; None for any other text, such as a pass phrase."""
        return cls(Secret(text)) if _FORM.fullmatch(text) else None

    @property
    def id(self) -> str:
        """The name by which sealed values refer to the key: 16 hex digits of its sha256."""
        return self.secret.sha256[:16]

    def bits(self) -> HiddenBytes:
        """The key itself, 32 bytes."""
        return HiddenBytes(bytes.fromhex(self.secret.reveal().removeprefix(_PREFIX)))
