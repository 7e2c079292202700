"""One sealed value: AES-256-GCM (NIST SP 800-38D) with a random nonce, bound to a purpose and a description."""

import base64
import binascii
import json
import os
from collections.abc import Mapping
from typing import Final

from tokenferry.sealing._key import SealKey
from tokenferry.secret import HiddenBytes

_NONCE: Final = 12
_TAG: Final = 16


class BrokenSeal(ValueError):  # noqa: N818  # the file's reader turns it into an error
    """The sealed value or its description was changed, or it was sealed with another key."""


def close_box(key: SealKey, content: bytes, purpose: str, about: Mapping[str, object]) -> str:
    """Seal the content. It opens only with the same key, purpose and `about` (JSON values)."""
    hidden = HiddenBytes(content)
    del content  # a traceback shows the locals of this frame
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415  # most homes aren't sealed

    nonce = os.urandom(_NONCE)
    return base64.b64encode(nonce + AESGCM(key.bits()).encrypt(nonce, hidden, _bound(purpose, about))).decode("ascii")


def open_box(key: SealKey, box: str, purpose: str, about: Mapping[str, object]) -> HiddenBytes:
    """Return the sealed value. Raises `BrokenSeal`."""
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415  # see above
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415  # see above

    try:
        raw = base64.b64decode(box, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    # Base64 has unused bits at its end: accept only the spelling that `close_box` writes.
    if len(raw) < _NONCE + _TAG or base64.b64encode(raw).decode("ascii") != box:
        raise BrokenSeal("what is sealed in it was cut short or changed")
    try:
        return HiddenBytes(AESGCM(key.bits()).decrypt(raw[:_NONCE], raw[_NONCE:], _bound(purpose, about)))
    except InvalidTag:
        raise BrokenSeal("it was changed after it was sealed") from None


def _bound(purpose: str, about: Mapping[str, object]) -> bytes:
    plain = json.dumps(about, sort_keys=True, separators=(",", ":"))
    return f"tokenferry {purpose}\n{plain}".encode("ascii")
