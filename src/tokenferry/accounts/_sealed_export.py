"""An export that only this home's key can open: for a backup, or another home with the same key file."""

import json
from typing import Final, get_args

from tokenferry.accounts._export import SHARED_TARGETS, Target
from tokenferry.errors import CorruptFile, UsageError
from tokenferry.sealing import BrokenSeal, close_box, open_box
from tokenferry.secret import Fields, HiddenBytes, parse_object
from tokenferry.stores import Seal

_MARK: Final = "tokenferry_sealed_export"
_VERSION: Final = 1
_PURPOSE: Final = "export"
_FORMATS: Final[tuple[Target, ...]] = get_args(Target)


def seal_export(content: HiddenBytes, target: Target, name: str, seal: Seal) -> HiddenBytes:
    """Seal an export with the home's key.

    Raises `UsageError` in a home that isn't sealed and for a shared file, `NeedsUnlock`, `SealKeyLost`.
    """
    if target in SHARED_TARGETS:
        raise UsageError(f"{target} is another program's file, which it must be able to read; leave --sealed out")
    key = seal.for_writing(None, is_new=True)
    if key is None:
        raise UsageError(
            "nothing is sealed here, so there is no key to seal an export with; run: tokenferry encryption enable"
        )
    about = {_MARK: _VERSION, "account": name, "format": target, "key": key.id}
    box = close_box(key, content, _PURPOSE, about)
    return HiddenBytes(json.dumps({**about, "sealed": box}, indent=1).encode("ascii") + b"\n")


def open_export(raw: HiddenBytes, seal: Seal, where: str) -> tuple[HiddenBytes, Target] | None:
    """Return the exported content and its format; None for content that isn't a sealed export.

    Raises `CorruptFile` for a modified one, `NeedsUnlock`, `SealKeyLost`.
    """
    fields = parse_object(raw)
    if fields is None or _MARK not in fields:
        return None
    about = fields.without("sealed")
    target = next((one for one in _FORMATS if one == fields.get("format")), None)
    if fields[_MARK] == _VERSION and target is not None:
        try:
            plain = open_box(seal.key(str(fields.get("key"))), str(fields.get("sealed")), _PURPOSE, Fields(about))
        except BrokenSeal:
            pass
        else:
            return plain, target
    raise CorruptFile(f"{where} is a sealed export that was modified; use another copy of it")
