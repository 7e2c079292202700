import os
import sys
import time
from pathlib import Path

from tokenferry.claude_code import ClaudeCodeHome, Keychain
from tokenferry.claude_code.precedence import Machine, look
from tokenferry.errors import ConfigError


def this_machine() -> Machine:
    """The surroundings of a program started here and now. Raises `ConfigError` if no home directory is known."""
    try:
        person = Path.home()
    except RuntimeError:
        raise ConfigError("no home directory is known here; set HOME") from None
    keychain = _read_keychain if sys.platform == "darwin" else None
    return Machine(os.environ, person, Path.cwd(), time.time(), look, keychain=keychain)


def _read_keychain(home: ClaudeCodeHome) -> bytes | None:
    return Keychain(home, os.environ.get("USER", "")).read()
