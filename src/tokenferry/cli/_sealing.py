"""The encryption state of a home, in the output of commands."""

import contextlib
from collections.abc import Iterator
from typing import Any, Final

from tokenferry.accounts import SealState, lies_in
from tokenferry.broker import open_sealing
from tokenferry.databases import store_settings
from tokenferry.errors import NeedsUnlock, SealKeyLost, TokenferryError
from tokenferry.sealing import KeyPlace, SystemKeyring
from tokenferry.settings import Home
from tokenferry.stores import FileStore

_CUT_SHORT: Final = {
    "sealing": ("some accounts are not encrypted", "tokenferry encryption enable"),
    "rotating": ("changing the key was interrupted, or is in progress", "tokenferry encryption enable"),
    "unsealing": ("decryption was interrupted, or is in progress", "tokenferry encryption disable"),
}


def place_in_words(place: KeyPlace) -> str:
    """The key file, or the keyring by its name if that is known."""
    if place.path is None:
        with contextlib.suppress(TokenferryError):
            return f"the system's keyring ({SystemKeyring().name()})"
    return str(place)


def seal_line(home: Home) -> str:
    """The line of `status`."""
    try:
        state = open_sealing(home, store_settings(home)).state()
    except TokenferryError as fault:
        return str(fault)
    if state.marker is None and state.sealed:
        return f"{len(state.sealed)} of {state.count} accounts, but {home.seal} is gone; see: tokenferry doctor"
    if state.marker is None:
        return "off: documents are in clear, in files that only you can read"
    where = f"key {state.marker.current} in {place_in_words(state.marker.place)}"
    text = f"{state.word}, {len(state.sealed)} of {state.count} accounts, {where}"
    trouble = _why_locked(state, home) or _distrust(home)
    return f"{text}; {trouble}" if trouble else text


def seal_json(home: Home) -> dict[str, Any]:
    state = open_sealing(home, store_settings(home)).state()
    marker = state.marker
    return {
        "state": state.word,
        "key": marker and marker.current,
        "key_file": None if marker is None or marker.place.path is None else str(marker.place.path),
        "locked": _why_locked(state, home),
        "untrusted": _distrust(home),
        "sealed": list(state.sealed),
        "older": list(state.older),
        "clear": list(state.clear),
    }


def _why_locked(state: SealState, home: Home) -> str | None:
    if state.marker is None:
        return None
    try:
        FileStore(home).seal.key(state.marker.current)
    except TokenferryError as fault:
        return str(fault)
    return None


def _distrust(home: Home) -> str | None:
    """Why the marker that the home is sealed can't be trusted; None if nothing is known against it."""
    try:
        FileStore(home).seal.checked()
    except NeedsUnlock:
        return None
    except TokenferryError as fault:
        return str(fault)
    return None


def seal_findings(home: Home) -> Iterator[tuple[str, str, str]]:
    """Problems of encryption: where, what, and the cure."""
    state = open_sealing(home, store_settings(home)).state()
    if state.marker is None:
        if state.sealed:
            yield (
                "names no key, but accounts are encrypted",
                str(home.seal),
                "tokenferry encryption disable, then tokenferry encryption enable",
            )
        return
    if distrust := _distrust(home):
        what, _, cure = distrust.partition("; ")
        yield what.removeprefix(f"{home.seal} "), str(home.seal), cure
        return
    if state.word in _CUT_SHORT:
        what, cure = _CUT_SHORT[state.word]
        yield what, f"accounts {', '.join(state.clear or state.older or state.sealed) or 'none'}", cure
    place = state.marker.place
    if place.path is not None and lies_in(home, place.path):
        yield "is in the folder that it encrypts, so each copy includes it", str(place.path), "move it elsewhere"
    try:
        FileStore(home).seal.key(state.marker.current)
    except NeedsUnlock as fault:
        yield f"isn't available now: {fault}", f"key {state.marker.current}", "unlock the keyring, or restore the file"
    except SealKeyLost as fault:
        yield f"is lost: {fault}", f"key {state.marker.current}", "restore it from a backup"
    except TokenferryError as fault:
        what, _, cure = str(fault).rpartition("; ")
        yield what or cure, f"key {state.marker.current}", cure
