"""Secrets and answers from stdin or a prompt. Other users can read a command line, so no secret comes from there."""

import getpass
import os
import re
import sys
import termios
from typing import Final

from tokenferry.cli._signals import wait_for_input
from tokenferry.credentials import SETUP_TOKEN_SHAPE
from tokenferry.errors import UsageError
from tokenferry.providers import key_shapes
from tokenferry.secret import HiddenBytes, decode_text, parse_object

_LIMIT: Final = 1024 * 1024
_LONGEST_LINE: Final = 4095  # a terminal drops the rest
_PAUSE: Final = 0.25  # seconds without input that end a paste
_SECRET_BEGINS: Final = ("sk-", "sk_")


def read_secret(what: str) -> bytes:
    """The secret from stdin, or from a prompt that doesn't echo. Raises `UsageError` without one."""
    if sys.stdin is None:
        raise UsageError(f"stdin is closed; pipe the {what} in, or run this in a terminal to be asked for it")
    if sys.stdin.isatty():
        try:
            raw = _joined(_typed(f"{what} (not shown): "), what)
        except EOFError:
            raw = b""
    else:
        raw = HiddenBytes(decode_text(sys.stdin.buffer.read(_LIMIT + 1)).encode())
    if not raw.strip():
        raise UsageError(f"no {what} was given; pipe it in, or run this in a terminal to be asked for it")
    if len(raw) > _LIMIT:
        raise UsageError(f"the input is longer than any {what}")
    return raw


def _typed(prompt: str) -> list[bytes]:
    """The lines typed or pasted at the prompt, without echo.

    The rest of a paste is discarded: the shell would run it.
    """
    try:
        descriptor = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        descriptor = os.dup(sys.stdin.fileno())
    try:
        shown = termios.tcgetattr(descriptor)
        hidden = [*shown[:3], shown[3] & ~termios.ECHO, *shown[4:]]
        termios.tcsetattr(descriptor, termios.TCSAFLUSH, hidden)
        try:
            os.write(descriptor, prompt.encode())
            return _pasted(descriptor)
        finally:
            termios.tcsetattr(descriptor, termios.TCSAFLUSH, shown)
            os.write(descriptor, b"\n")
    except termios.error:
        return [HiddenBytes(getpass.getpass(prompt).encode("utf-8", "surrogateescape"))]
    finally:
        os.close(descriptor)


def _pasted(descriptor: int) -> list[bytes]:
    """Read until a line ends and no more input follows at once. A JSON object may span many lines."""
    data = HiddenBytes()
    while len(data) <= _LIMIT:
        is_object = data.lstrip().startswith(b"{")
        is_whole = data.endswith(b"\n") and not (is_object and parse_object(data) is None)
        pause = _PAUSE if is_whole else 4 * _PAUSE if data.endswith(b"\n") else None
        if not wait_for_input(descriptor, pause if data.strip() else None):
            break
        more = os.read(descriptor, _LIMIT)
        data = HiddenBytes(data + more)
        if not more or not data.strip():
            break
    return [HiddenBytes(line) for line in data.split(b"\n")]


def _joined(lines: list[bytes], what: str) -> bytes:
    """Join pasted lines into one secret: a terminal that wraps a long secret copies it as several lines.

    Raises `UsageError` for lines that may be several secrets.
    """
    if any(len(line) >= _LONGEST_LINE for line in lines):
        raise UsageError(f"a terminal takes {_LONGEST_LINE} characters in a line; pipe the {what} in instead")
    parts = [HiddenBytes(line.strip()) for line in lines if line.strip()]
    del lines  # a traceback shows the locals of this frame
    if not parts:
        return b""
    if len(parts) == 1 or parts[0].startswith(b"{"):
        return HiddenBytes(b"\n".join(parts))
    whole = HiddenBytes(b"".join(parts))
    begins = tuple(prefix.encode() for prefix in _SECRET_BEGINS)
    if not any(part.startswith(begins) for part in parts[1:]) and _has_known_shape(whole):
        return whole
    raise UsageError(f"the pasted text has {len(parts)} lines, and a {what} has one; copy it without line breaks")


def _has_known_shape(value: bytes) -> bool:
    text = value.decode("utf-8", "replace")
    return any(re.fullmatch(shape, text) for shape in (SETUP_TOKEN_SHAPE, *key_shapes()))


def confirmed(question: str, *, flag: str) -> bool:
    """Ask a yes-or-no question on the terminal. Without a terminal raises `UsageError`, which names `flag` instead."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageError(f"this needs your confirmation, and stdin is not a terminal; confirm with {flag}")
    return answer(f"{question} [y/N] ") in {"y", "yes"}


def answer(question: str) -> str:
    """Ask, and give the typed line in lower case, stripped."""
    sys.stderr.write(question)
    sys.stderr.flush()
    wait_for_input(sys.stdin.fileno())
    return sys.stdin.readline().strip().lower()
