"""Caches the output of `tokenferry token` until one of its dependencies changes, as in ccache's direct mode.

The manifest is a private file in the home with one answer per line. A line names the place of the secret (a slice of a
file or variable) and each dependency: variables, files, folders, locks, cooldowns, the machine, the time. It holds no
secret, only the text around it and a digest of the dependencies' stamps. The line's tag is keyed with the secret: a
forged line reveals nothing that its author does not know, and a stale one is ignored. If anything differs or can't be
read, the command computes the answer again.

It imports almost nothing, since programs ask for a token before each request.
"""

import os
import stat
import time
from contextvars import ContextVar

TYPE_CHECKING = False  # importing typing is slow
if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextvars import Token
    from pathlib import Path
    from typing import Any, Literal, Self, TypeAlias

    Kind: TypeAlias = Literal[
        "file", "presence", "folder", "listing", "link", "lock", "cooldowns", "variable", "machine"
    ]

__all__ = ["NAME", "Dependencies", "config_file", "data_home", "depend_on", "doubt", "recall"]

NAME = "token-manifest"
_VARIABLES = (
    *("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "TOKENFERRY_HOME", "TOKENFERRY_CONFIG", "TOKENFERRY_SEAL_KEY_FILE"),
    *("TOKENFERRY_ACCOUNT", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL"),
)
_PATHS = _VARIABLES[:6]
_MACHINE = ("/etc/machine-id", "/var/lib/dbus/machine-id")
_BLANK = "\0"  # replaces the secret in an answer
_MOST_LINES = 32
_MOST_BYTES = 4 * 1024 * 1024
_LONGEST_LINE = 256 * 1024
_TICK_NS = 20_000_000  # a file system's clock ticks every 10 ms
_COARSE_TICK_NS = 2_000_000_000  # if not every second, or two
_LONGEST_WRITE = 60.0
_ENDLESS = 4_102_444_800
_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


def recall(arguments: "Sequence[str]", now: float | None = None) -> tuple[str, str] | None:
    """Give what `tokenferry token ARGUMENTS` writes to stdout and stderr; None if that must be computed."""
    try:
        selector = _selector(arguments)
        for line in _read_private(f"{data_home()}/{NAME}").splitlines():
            if line.startswith(selector):
                return _recalled(line, time.time() if now is None else now)
    except Exception:  # noqa: BLE001  # the full command reports the error
        return None
    return None


def _recalled(line: bytes, now: float) -> tuple[str, str] | None:
    from json import loads  # noqa: PLC0415  # not needed for depending on something

    _, tag, text = line.split(b" ", 2)
    entry = loads(text)
    *place, start, end = entry["place"]
    secret = _source(*place)[start:end]  # before the stamps, which show later changes
    is_intact = (
        entry["since"] <= now < entry["until"]
        and entry["stamps"] == _digest([_stamp(kind, name) for kind, name in entry["depends"]])
        and tag == _tag(secret, text)
    )
    return (entry["stdout"].replace(_BLANK, secret), entry["stderr"]) if is_intact else None


# Recording.


class Dependencies:
    """The dependencies of an answer and their first stamps, recorded by `depend_on` within the block."""

    def __init__(self) -> None:
        self.since = time.time()
        self.until: float = _ENDLESS
        """The time until which the answer is valid, in seconds since 1970 UTC."""
        self._stamps: dict[tuple[Kind, str], Any] = {}
        self._is_stable = True
        for name in _VARIABLES:
            self.add("variable", name)
        # A relative path depends on the working directory.
        self._is_stable = all(os.environ.get(name, "/").startswith("/") for name in _PATHS)
        self.add("machine", "")
        self.add("file", __file__)  # another version may answer differently
        self._token: Token[Dependencies | None] | None = None

    def __enter__(self) -> "Self":
        self._token = _recorded.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._token is not None
        _recorded.reset(self._token)

    def add(self, kind: "Kind", name: str) -> None:
        """Add a dependency, whether it exists or not."""
        if (kind, name) in self._stamps:
            return
        try:
            stamp = self._stamps[kind, name] = _stamp(kind, name)
        except Exception:  # noqa: BLE001  # an answer with an unreadable dependency is not cached
            self.doubt()
            return
        if stamp and kind in {"file", "listing"}:
            tick = _TICK_NS if stamp[-1] % 1_000_000_000 else _COARSE_TICK_NS
            self._is_stable &= stamp[-1] < time.time_ns() - tick  # a change within the same tick would be invisible
        if stamp and kind == "cooldowns":
            ends = (until for _, until in stamp[2] if until is not None and until > self.since)
            self.until = min(self.until, *ends, _ENDLESS)

    def doubt(self) -> None:
        """Don't cache the answer."""
        self._is_stable = False

    def remember(
        self, arguments: "Sequence[str]", stdout: str, secret: str, *, stderr: str = "", sealed: "Sequence[str]" = ()
    ) -> None:
        """Cache an answer that contains a secret of a dependency, or of a `sealed` document (its file, its key file).

        An answer that could not be recalled now is not cached. It raises nothing.
        """
        try:
            line = self._line(arguments, stdout, secret, stderr, sealed)
            if self._is_stable and line is not None and _recalled(line, time.time()) == (stdout, stderr):
                _add_line(f"{data_home()}/{NAME}", line)
        except Exception:  # noqa: BLE001  # the answer was given; it is computed again next time
            return

    def _line(
        self, arguments: "Sequence[str]", stdout: str, secret: str, stderr: str, sealed: "Sequence[str]"
    ) -> bytes | None:
        from json import dumps  # noqa: PLC0415  # as above

        places = [("sealed", *sealed)] if sealed else [one for one in self._stamps if one[0] in {"variable", "file"}]
        place = next(([*one, at, at + len(secret)] for one in places if (at := _find(one, secret)) >= 0), None)
        entry = {
            "since": self.since,
            "until": min(self.until, _ENDLESS),
            "place": place,
            "depends": list(self._stamps),
            "stamps": _digest([*self._stamps.values()]),
            "stdout": stdout.replace(secret, _BLANK),
            "stderr": stderr,
        }
        text = dumps(entry).encode("ascii")
        is_cacheable = (
            place is not None and (stdout + stderr).isascii() and secret not in stderr and len(text) <= _LONGEST_LINE
        )
        return b"%b %b %b" % (_selector(arguments), _tag(secret, text), text) if is_cacheable else None


_recorded: "ContextVar[Dependencies | None]" = ContextVar("tokenferry_dependencies", default=None)


def depend_on(kind: "Kind", name: "str | Path") -> None:
    """Record what is about to be read, listed or searched."""
    if (dependencies := _recorded.get()) is not None:
        dependencies.add(kind, str(name))


def doubt() -> None:
    """Record that a dependency could not be checked, so that the answer is not cached."""
    if (dependencies := _recorded.get()) is not None:
        dependencies.doubt()


def _find(place: "tuple[str, ...]", secret: str) -> int:
    try:
        return _source(*place).find(secret)
    except (KeyError, OSError, ValueError):
        return -1


def _add_line(path: str, line: bytes) -> None:
    """Add a line to the manifest, replacing the one for the same arguments and variables. It need not be durable."""
    try:
        known = [one for one in _read_private(path).splitlines() if not one.startswith(line[: line.index(b" ") + 1])]
    except (OSError, ValueError):
        known = []
    _remove_leftovers(path)
    temporary = f"{path}.{os.urandom(4).hex()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        try:
            os.fchmod(descriptor, 0o600)  # regardless of the umask
            os.write(descriptor, b"\n".join([*known[1 - _MOST_LINES :], line]))
        finally:
            os.close(descriptor)
        os.rename(temporary, path)  # noqa: PTH104  # importing pathlib would take longer
    except OSError:
        os.unlink(temporary)  # noqa: PTH108  # as above


def _remove_leftovers(path: str) -> None:
    """Remove old temporary files of killed writers."""
    folder, name = os.path.split(path)  # importing pathlib would take longer
    for one in os.listdir(folder):  # noqa: PTH208  # as above
        temporary = f"{folder}/{one}"
        if one.startswith(f"{name}.") and os.lstat(temporary).st_mtime < time.time() - _LONGEST_WRITE:
            os.unlink(temporary)  # noqa: PTH108  # as above


# Stamps.


def _stamp(kind: "Kind", name: str) -> "Any":  # noqa: PLR0911  # a table
    """Give a value that differs when the dependency has changed; None if it does not exist."""
    if kind == "variable":
        return _digest(os.environ.get(name))
    if kind == "machine":
        return _digest([os.uname().nodename, *map(_content, _MACHINE)])
    if kind == "link":
        return os.path.realpath(name)
    if kind == "presence":
        return os.path.exists(name)  # noqa: PTH110  # as above
    try:
        status = os.lstat(name) if kind == "file" else os.stat(name)  # noqa: PTH116  # as above
    except (FileNotFoundError, NotADirectoryError):
        return None
    if kind == "lock":
        return _is_locked(name)
    if kind == "cooldowns":
        return [status.st_mode, status.st_uid, _cooldowns(name) if stat.S_ISREG(status.st_mode) else []]
    if kind == "folder":  # entries may change, but not owner and mode
        return [status.st_dev, status.st_ino, status.st_mode, status.st_uid]
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _is_locked(path: str) -> bool:
    from fcntl import LOCK_NB, LOCK_SH, flock  # noqa: PLC0415  # few answers depend on a lock

    descriptor = os.open(path, _FLAGS)
    try:
        flock(descriptor, LOCK_SH | LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _cooldowns(path: str) -> "list[Any]":
    """Give the accounts in a cooldown for all models, and its end."""
    if any(character in path for character in "?#%"):
        raise ValueError(path)
    import sqlite3  # noqa: PLC0415  # takes 5 ms, only for homes with cooldowns

    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=0)
    try:
        query = "SELECT name, until FROM cooldowns WHERE kind = 'account' AND family = '' ORDER BY name, cause"
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def _source(kind: str, name: str, key_file: str = "") -> str:
    """Give the text that contains the secret."""
    if kind == "variable":
        return os.environ[name]
    if kind == "sealed":
        return _opened(name, key_file)
    return _read_private(name).decode("latin-1")  # one character per byte


def _opened(path: str, key_file: str) -> str:
    """Decrypt a sealed document; see `tokenferry.sealing`."""
    from base64 import b64decode  # noqa: PLC0415  # most homes aren't sealed
    from hashlib import sha256  # noqa: PLC0415  # as above
    from json import dumps, loads  # noqa: PLC0415  # as above

    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415  # as above

    document = loads(_read_private(path))
    box = b64decode(document.pop("sealed"))
    key = next(one for one in _read_private(key_file).split() if sha256(one).hexdigest()[:16] == document["key"])
    about = "tokenferry document\n" + dumps(document, sort_keys=True, separators=(",", ":"))
    return AESGCM(bytes.fromhex(key[4:].decode())).decrypt(box[:12], box[12:], about.encode()).decode("latin-1")


def _read_private(path: str) -> bytes:
    """Read a file that only this user may read. Raises `ValueError` for any other."""
    descriptor = os.open(path, _FLAGS)
    try:
        status = os.fstat(descriptor)
        is_private = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077
        data = os.read(descriptor, _MOST_BYTES) if is_private else b""
        if not is_private or len(data) != status.st_size:
            raise ValueError(path)
    finally:
        os.close(descriptor)
    return data


def _content(path: str) -> str | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(descriptor, 1024).hex()
    finally:
        os.close(descriptor)


def data_home() -> str:
    """Give the path of the home; see `Home.from_environment`. Raises `ValueError` for a relative path."""
    base = os.environ.get("XDG_DATA_HOME", "")
    data = base if base.startswith("/") else f"{os.environ.get('HOME', '')}/.local/share"
    home = os.environ.get("TOKENFERRY_HOME") or f"{data}/tokenferry"
    if not home.startswith("/"):
        raise ValueError(home)
    return home


def config_file() -> str:
    """Where the configuration lies; see `Home.from_environment`."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    folder = f"{base if base.startswith('/') else os.environ.get('HOME', '') + '/.config'}/tokenferry"
    named = os.environ.get("TOKENFERRY_CONFIG") or f"{os.environ.get('TOKENFERRY_HOME') or folder}/config.toml"
    return os.path.expanduser(named)  # noqa: PTH111  # importing pathlib takes 5 ms


def _selector(arguments: "Sequence[str]") -> bytes:
    """Give the digest that selects a line, by arguments, environment and installation."""
    return _digest([__file__, *arguments, None, *map(os.environ.get, _VARIABLES)]).encode("ascii")


def _digest(value: object) -> str:
    from hashlib import blake2b  # noqa: PLC0415  # not needed for depending on something
    from json import dumps  # noqa: PLC0415  # as above

    return blake2b(dumps(value).encode("ascii"), digest_size=16).hexdigest()


def _tag(secret: str, text: bytes) -> bytes:
    from hashlib import blake2b  # noqa: PLC0415  # as above

    return blake2b(text, key=blake2b(secret.encode("latin-1")).digest(), digest_size=32).hexdigest().encode("ascii")
