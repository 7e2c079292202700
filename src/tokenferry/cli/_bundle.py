"""`doctor --bundle`: a report for an issue, without secrets, names or anything that a user typed.

A value is shown only if it comes from a closed set: a number, a choice, a word of the code. Sentences lose every word
that is in a file of the home, in a variable with a secret, or among the names in its databases. The gateway's own log
lines consist of words of the code; their names are in the other files.
"""

import contextlib
import os
import platform
import re
import stat
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from tokenferry import __version__
from tokenferry.cli._checks import Finding, load_or_default
from tokenferry.cli._describe import rows
from tokenferry.cli._home import open_broker
from tokenferry.cli._output import redacted
from tokenferry.cli._services import client_keys
from tokenferry.config import SECTIONS, examine
from tokenferry.databases import has_ledger, open_ledger
from tokenferry.errors import TokenferryError
from tokenferry.ledger import UsageReport
from tokenferry.providers import builtin_providers, presets
from tokenferry.settings import Home
from tokenferry.state import gateway_records

_PACKAGES: Final = ("cryptography", "httptools", "httpx2", "keyring", "msgspec", "starlette", "typer", "uvloop")
_STEP: Final = re.compile(r'"[^"]*"|[^.]+')
_WORD: Final = re.compile(r"[^\s\"'=,;\[\]{}()]{6,}")
_SECRET_NAME: Final = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|AUTH|CREDENTIAL", re.IGNORECASE)
_OURS: Final = re.compile(r"(TOKENFERRY|ANTHROPIC|OPENAI|CLAUDE|XDG)_|(HTTPS?|ALL|NO)_PROXY$|SSL_CERT", re.IGNORECASE)
_LARGEST: Final = 1 << 20
_LOG: Final = "serve.log"
_HIDDEN: Final = "[redacted]"


def bundle(home: Home, findings: Iterable[Finding]) -> Mapping[str, Any]:
    """The report as a JSON document."""
    veil = _Veil(home)
    return {
        "tokenferry": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "packages": dict(_packages()),
        "variables": sorted(name for name in os.environ if _OURS.match(name)),
        "one_folder": "TOKENFERRY_HOME" in os.environ,
        "files": dict(_files(home)),
        "settings": _settings(home),
        "accounts": _accounts(home, veil),
        "gateways": _gateways(home),
        "findings": [
            {
                "what": veil.over(one.what),
                "where": veil.over(one.where),
                "cure": veil.over(one.cure),
                "note": one.is_note,
            }
            for one in findings
        ],
    }


class _Veil:
    """Removes from sentences the words of files and secret variables, the home's path, and account names."""

    def __init__(self, home: Home) -> None:
        self.names = dict.fromkeys(_names(home) - _vocabulary(), _HIDDEN)
        self._places = {str(home.path): "HOME", str(home.config.parent): "CONFIG", str(Path.home()): "~"}
        words = {word for text in _contents(home) for word in _WORD.findall(text)}
        words |= {value for name, value in os.environ.items() if _SECRET_NAME.search(name)}
        own = {path.name for path in _own_files(home)}
        self._words = sorted((word for word in words - _vocabulary() - own if word), key=len, reverse=True)

    def over(self, text: str) -> str:
        for path, short in self._places.items():
            text = text.replace(path, short)
        for word in self._words:
            text = text.replace(word, _HIDDEN)
        for name, short in sorted(self.names.items(), key=lambda pair: -len(pair[0])):
            text = re.sub(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", short, text)
        return redacted(text)


def _contents(home: Home) -> Iterator[str]:
    for folder in {home.path, home.config.parent}:
        for path in sorted(folder.rglob("*")):
            yield path.name
            if path.name == _LOG:
                continue
            try:
                status = path.lstat()
                if stat.S_ISREG(status.st_mode) and status.st_size <= _LARGEST and path.suffix != ".db":
                    yield path.read_text("utf-8", errors="replace")
            except OSError:
                continue


def _names(home: Home) -> set[str]:
    """Names in the databases: client keys, and models that clients asked for."""
    found = {key.name for key in client_keys(home) or ()}
    with contextlib.suppress(TokenferryError):
        if has_ledger(home):
            with open_ledger(home) as ledger:
                found |= UsageReport(ledger).names()
    return found


def _vocabulary() -> set[str]:
    """Harmless words that a file may contain: those of the configuration and of account documents."""
    keys = {key.name for section in SECTIONS for key in section.keys}
    choices = {choice for section in SECTIONS for key in section.keys for choice in key.choices}
    sections = {step for section in SECTIONS for step in section.path}
    return keys | choices | sections | {*builtin_providers(), *presets(), "tokenferry", "accounts", "provider", "local"}


def _packages() -> Iterator[tuple[str, str]]:
    for name in _PACKAGES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            yield name, "missing"


def _own_files(home: Home) -> set[Path]:
    return {value for name in dir(Home) if isinstance(value := getattr(home, name, None), Path)} - {home.path}


def _files(home: Home) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Files that tokenferry writes, by name. For a folder: the number of its files, and their modes."""
    for path in sorted(_own_files(home)):
        try:
            status = path.lstat()
            found = {"mode": stat.filemode(status.st_mode), "age": int(time.time() - status.st_mtime)}
            if stat.S_ISDIR(status.st_mode):
                inside = Counter(stat.filemode(one.lstat().st_mode) for one in path.iterdir())
                yield path.name, {**found, "inside": dict(inside)}
            else:
                yield path.name, {**found, "bytes": status.st_size}
        except OSError:
            continue


def _settings(home: Home) -> Mapping[str, Any]:
    """The settings in the file: the value if it is from a closed set, else only the fact that one is set."""
    try:
        given = [one for one in examine(home.config, environ={}).effective() if one.source == "config.toml"]
    except TokenferryError:
        return {}
    known, found = _vocabulary(), dict[str, list[Any]]()
    for one in given:
        path = ".".join(step if step in known else "*" for step in _STEP.findall(one.path))
        is_closed = isinstance(one.value, int | float) or one.key.kind == "duration" or one.value in one.key.choices
        found.setdefault(path, []).append(one.value if is_closed else "set")
    return found


def _accounts(home: Home, veil: _Veil) -> list[Mapping[str, Any]]:
    try:
        listed = rows(open_broker(home, load_or_default(home)[0]))
    except TokenferryError:
        return []
    found: list[Mapping[str, Any]] = []
    for number, one in enumerate(listed, 1):
        veil.names[one.name] = f"account-{number}"
        shown: dict[str, Any] = {"name": f"account-{number}", "state": one.state, "in_use": one.is_active}
        if one.document is not None:
            account, provider = one.document.account, one.document.account.provider
            known = provider in builtin_providers() or provider in presets()
            shown |= {"kind": account.kind, "owner": account.owner, "provider": provider if known else "custom"}
            shown |= {"priority": account.priority, "paused": account.paused, "labels": len(account.labels)}
        found.append(shown)
    return found


def _gateways(home: Home) -> list[Mapping[str, Any]]:
    try:
        return [{"running": one.is_running} for one in gateway_records(home)]
    except TokenferryError:
        return []
