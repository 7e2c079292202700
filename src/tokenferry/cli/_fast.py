"""`tokenferry token` for a credential that is fresh, with the quickest parts of the standard library alone.

It gives what the broker would give, or declines: whatever is unusual is left to the broker, which explains it.
"""

import os
import stat
import time
from json import dumps, loads

TYPE_CHECKING = False  # the real one costs an import of typing
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Literal

    Form = Literal["plain", "env", "json"]

MIN_TTL = 600
PINNED = "account {} is used, as TOKENFERRY_ACCOUNT says"
_ADVISORY = 300  # less left than this: the broker renews it in the background
_LATEST = 4_102_444_800
_MOST_BYTES = 1024 * 1024
_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)

_SEALED_VERSION = 2
_PROVIDERS = ("anthropic", "console", "sandbox")
_AMENDABLE = (*_PROVIDERS, "claude-max")
_LOOPBACK = "http://127.0.0.1:"
_SANDBOX = "http://127.0.0.1:13457"
_TEXTS = ("subscription_type", "rate_limit_tier", "email", "account_id", "organization_id", "source")
_TIMES = ("expires_at", "obtained_at", "refresh_expires_at", "lifetime")


def fresh_token(
    arguments: list[str], environ: "Mapping[str, str] | None" = None, now: float | None = None
) -> str | None:
    """Give what `tokenferry token ARGUMENTS` prints, or None where that takes more than a look."""
    try:
        return _token(arguments, os.environ if environ is None else environ, time.time() if now is None else now)
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return None


def remark(arguments: list[str]) -> str | None:
    """What is said on stderr beside it: that a variable picked the account."""
    named, pinned = _parse(arguments)[0], os.environ.get("TOKENFERRY_ACCOUNT")
    return PINNED.format(pinned) if pinned and not named else None


def write(text: str, beside: str | None = None) -> int:
    """Write the text and a line's end to stdout; give the exit code. What is said `beside` goes to stderr."""
    if beside is not None:
        os.write(2, f"tokenferry: {beside}\n".encode())
    left = f"{text}\n".encode("ascii")
    try:
        while left:
            left = left[os.write(1, left) :]
    except OSError:
        return 1
    return 0


def _need(usual: bool) -> None:  # noqa: FBT001  # reads as an assertion
    if not usual:
        raise ValueError


def _token(arguments: list[str], environ: "Mapping[str, str]", now: float) -> str:
    _need(os.name == "posix")
    name, min_ttl, form = _parse(arguments)
    home = _home(environ)
    _need(_is_safe_folder(home))
    sandbox = _SANDBOX
    _need(not environ.get("TOKENFERRY_CONFIG"))
    if config := _read(_config(environ, home), forbidden=0o022):
        sandbox = _check_config(config)
    accounts = f"{home}/accounts"
    _need(_is_safe_folder(accounts))
    name = name or environ.get("TOKENFERRY_ACCOUNT")
    if not name and (name := _active(home)):
        _need(not _may_be_limited(home, name))  # then another account may stand in for it
    if not name:
        _need(not os.path.exists(f"{home}/attached"))  # noqa: PTH110  # importing pathlib takes longer than all of this
        name = _only(accounts)
    _need(_is_name(name))
    # Of an account that was moved into another program's store the document here is an old copy.
    _need(not os.path.exists(f"{home}/attached/{name}.json"))  # noqa: PTH110  # as above
    raw = _read(f"{accounts}/{name}.json", forbidden=0o077)
    _need(raw.isascii())
    document = loads(raw, parse_constant=_refuse)
    _need(type(document) is dict and document.get("name") == name)
    if "sealed" in document:
        document = _opened(document, raw, home, environ)
        _need(type(document) is dict and document.get("name") == name)
    else:  # in a sealed home one in clear may be of anybody
        _need(not os.path.exists(f"{home}/seal.json"))  # noqa: PTH110  # as above
    _need(document.get("max_age") is None)
    token = _value(document, now + max(min_ttl, _ADVISORY))
    if form == "plain":
        return token
    return _lines(document, token, sandbox) if form == "env" else _json(document, token)


def _opened(document: "dict[str, Any]", raw: bytes, home: str, environ: "Mapping[str, str]") -> "dict[str, Any]":
    """What is sealed in a document whose key rests in a file; a keyring is left to the broker."""
    box, key_id = document.pop("sealed"), str(document.get("key"))
    _need(document.get("version") == _SEALED_VERSION and type(box) is str)
    _need(dumps({**document, "sealed": box}, indent=1).encode() + b"\n" == raw)
    file = environ.get("TOKENFERRY_SEAL_KEY_FILE") or _key_file(home, key_id)
    _need(file.startswith("/") and _is_safe_folder(file[: file.rindex("/")] or "/"))
    from hashlib import sha256  # noqa: PLC0415  # what is in clear is spared it

    lines = _read(file, forbidden=0o077).split()
    found = [line for line in lines if sha256(line).hexdigest()[:16] == key_id]
    _need(len(found) == 1 and found[0].startswith(b"tfs_") and len(found[0]) == 68)  # noqa: PLR2004  # 256 bits
    from base64 import b64decode, b64encode  # noqa: PLC0415  # as above

    from cryptography.exceptions import InvalidTag  # noqa: PLC0415  # 20 ms, where all of the broker takes 400
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415  # as above

    sealed = b64decode(box, validate=True)
    _need(b64encode(sealed).decode() == box)
    about = "tokenferry document\n" + dumps(document, sort_keys=True, separators=(",", ":"))
    try:
        plain = AESGCM(bytes.fromhex(found[0][4:].decode())).decrypt(sealed[:12], sealed[12:], about.encode())
    except InvalidTag:
        raise ValueError(document["name"]) from None
    opened: dict[str, Any] = loads(plain, parse_constant=_refuse)
    return opened


def _key_file(home: str, key_id: str) -> str:
    """Where the home says that the key rests."""
    for key in loads(_read(f"{home}/seal.json", forbidden=0o077))["keys"]:
        if key["id"] == key_id and type(key["file"]) is str:
            return str(key["file"])
    raise ValueError(key_id)


def _lines(document: "dict[str, Any]", token: str, sandbox: str) -> str:
    """What `--env` prints of a token that needs no quoting."""
    _need(all(character.isalnum() or character in "_@%+=:,./-" for character in token))
    line = f"{'ANTHROPIC_API_KEY' if document['kind'] == 'api-key' else 'ANTHROPIC_AUTH_TOKEN'}={token}"
    return f"{line}\nANTHROPIC_BASE_URL={sandbox}" if document["provider"] == "sandbox" else line


def _json(document: "dict[str, Any]", token: str) -> str:
    is_key = document["kind"] == "api-key"
    header = f"x-api-key: {token}" if is_key else f"Authorization: Bearer {token}"
    expires_at = None if is_key else document["credential"].get("expires_at")
    return dumps({"token": token, "expires_at": expires_at, "header": header}, indent=2)


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _parse(arguments: list[str]) -> "tuple[str | None, int, Form]":
    name, min_ttl = None, MIN_TTL
    form: Form = "plain"
    rest = iter(arguments)
    for argument in rest:
        if argument == "--min-ttl" or argument.startswith("--min-ttl="):
            value = argument[10:] if "=" in argument else next(rest, "")
            _need(value.isascii() and value.isdigit() and len(value) < 10)  # noqa: PLR2004  # any number fit for seconds
            min_ttl = int(value)
        elif argument in {"--env", "--json"}:
            _need(form == "plain")
            form = "env" if argument == "--env" else "json"
        else:
            _need(name is None and _is_name(argument))
            name = argument
    return name, min_ttl, form


def _is_name(text: str) -> bool:
    ends = 0 < len(text) <= 64 and text.isascii() and text[0].isalnum()  # noqa: PLR2004  # see stores.ACCOUNT_NAME
    return ends and all(character.isalnum() or character in "._@+-" for character in text)


def _home(environ: "Mapping[str, str]") -> str:
    home = environ.get("TOKENFERRY_HOME") or _xdg(environ, "XDG_DATA_HOME", ".local/share")
    _need(home.startswith("/"))
    return home


def _config(environ: "Mapping[str, str]", home: str) -> str:
    folder = home if environ.get("TOKENFERRY_HOME") else _xdg(environ, "XDG_CONFIG_HOME", ".config")
    _need(folder == home or not os.path.exists(folder) or _is_safe_folder(folder))  # noqa: PTH110  # as below
    return f"{folder}/config.toml"


def _xdg(environ: "Mapping[str, str]", variable: str, default: str) -> str:
    base = environ.get(variable, "")
    return f"{base if base.startswith('/') else environ['HOME'] + '/' + default}/tokenferry"


def _is_safe_folder(path: str) -> bool:
    status = os.stat(path)  # noqa: PTH116  # importing pathlib takes longer than all of this
    return status.st_uid in {os.geteuid(), 0} and not status.st_mode & 0o022


def _read(path: str, *, forbidden: int) -> bytes:
    """The content of a private file; empty if there is none."""
    try:
        descriptor = os.open(path, _FLAGS)
    except FileNotFoundError:
        return b""
    try:
        status = os.fstat(descriptor)
        _need(stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & forbidden)
        data = os.read(descriptor, _MOST_BYTES)
        _need(len(data) == status.st_size)
    finally:
        os.close(descriptor)
    return data


def _active(home: str) -> str | None:
    return _read(f"{home}/active", forbidden=0o077).decode("ascii").strip() or None


def _may_be_limited(home: str, name: str) -> bool:
    """Whether a cooldown of the account is on record, over or not."""
    if not os.path.exists(f"{home}/state.db"):  # noqa: PTH110  # as above
        return False
    _need(not any(character in home for character in "?#%"))
    import sqlite3  # noqa: PLC0415  # 5 ms, which a home without a state is spared

    try:
        connection = sqlite3.connect(f"file:{home}/state.db?mode=ro", uri=True, timeout=0)
        try:
            query = "SELECT 1 FROM cooldowns WHERE kind = 'account' AND name = ? LIMIT 1"
            return connection.execute(query, (name,)).fetchone() is not None
        finally:
            connection.close()
    except sqlite3.Error:
        return True


def _only(accounts: str) -> str:
    entries = os.listdir(accounts)  # noqa: PTH208  # as above
    names = [name for name in entries if name.endswith(".json") and not name.startswith(".")]
    _need(len(names) == 1)
    return names[0].removesuffix(".json")


def _check_config(raw: bytes) -> str:
    """Go on only with a configuration that is valid and changes nothing about who may have which token.

    Gives the sandbox's address.
    """
    import tomllib  # noqa: PLC0415  # 10 ms that a home without a config.toml is spared

    config = tomllib.loads(raw.decode("utf-8"))
    server, log, router, policy = (config.pop(key, {}) for key in ("server", "log", "router", "policy"))
    _need(all(type(table) is dict for table in (server, log, router, policy)))
    port, level = server.pop("port", 0), log.pop("level", "info")
    _need(type(port) is int and 0 <= port <= 65_535 and level in ("debug", "info", "warning", "error"))  # noqa: PLR2004
    _need(_is_text(server.pop("host", "-")) and not server and not log)
    _need(_is_text(router.pop("account", "-")) and not router)
    _need(policy.pop("subscriptions", "own-use") in ("claude-code-only", "own-use") and not policy)
    seen = set()
    sandbox = _SANDBOX
    for provider in config.pop("providers", ()):
        _need(type(provider) is dict)
        name, url = provider.pop("name", None), provider.pop("base_url", None)
        _need(name in _AMENDABLE and name not in seen)
        seen.add(name)
        _need(url is None or (name == "sandbox" and _is_loopback(url)))
        _need(type(provider.pop("enabled", True)) is bool and not provider)
        sandbox = url or sandbox
    _need(not config)
    return sandbox


def _is_text(value: object) -> bool:
    return type(value) is str and value != ""


def _is_loopback(url: object) -> bool:
    if type(url) is not str or not url.startswith(_LOOPBACK):
        return False
    port = url[len(_LOOPBACK) :]
    return port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65_535  # noqa: PLR2004  # a port


def _is_secret(value: object) -> bool:
    return type(value) is str and value != "" and all("!" <= character <= "~" for character in value)


def _is_time(value: object) -> bool:
    return type(value) is int and 0 <= value <= _LATEST


def _value(document: "dict[str, Any]", until: float) -> str:
    """The token or key in a document that is as it should be, if it lives beyond `until`."""
    numbers = all(type(document.get(key)) is int for key in ("generation", "priority"))
    tables = all(type(document.get(key)) is dict for key in ("labels", "credential"))
    _need(numbers and tables and _is_time(document.get("created_at")))
    _need(all(type(label) is str for label in document["labels"].values()))
    machine = document.get("machine")
    _need(machine is None or type(machine) is str)
    version, owner, provider = (document.get(key) for key in ("version", "owner", "provider"))
    _need(version == 1 and type(version) is int and owner == "tokenferry" and provider in _PROVIDERS)
    credential = document["credential"]
    if document.get("kind") == "api-key":
        value = credential.get("key")
        _need(credential.get("obtained_at") is None or _is_time(credential["obtained_at"]))
        is_vendors = provider != "sandbox"
    else:
        is_federated = document.get("kind") == "federated"
        _need(is_federated or document.get("kind") == "oauth")
        if is_federated:
            _check_federation(credential)
        value = credential.get("access_token")
        # A Console login makes tokens of the same look that bill no subscription.
        is_console = provider == "console" and credential.get("subscription_type") is None
        is_vendors = provider != "sandbox" and not is_console and not is_federated
        _need(provider != "console" or is_console)
        _check_oauth(credential, until)
    _need(_is_secret(value))
    _need(not (is_vendors and value.startswith("sk-ant-oat")))
    return str(value)


def _check_federation(credential: "dict[str, Any]") -> None:
    places = [credential.get(f"identity_token_{place}") for place in ("file", "variable")]
    _need(all(place is None or type(place) is str for place in places) and bool(places[0]) != bool(places[1]))
    federation = credential.get("federation", {})
    _need(type(federation) is dict and all(type(value) is str for value in federation.values()))


def _check_oauth(credential: "dict[str, Any]", until: float) -> None:
    refresh, scopes = credential.get("refresh_token"), credential.get("scopes")
    _need(refresh is None or refresh == "" or _is_secret(refresh))
    _need(scopes is None or (type(scopes) is list and all(type(scope) is str for scope in scopes)))
    _need(all(credential.get(key) is None or type(credential[key]) is str for key in _TEXTS))
    _need(all(credential.get(key) is None or _is_time(credential[key]) for key in _TIMES))
    expires_at = credential.get("expires_at")
    _need(not refresh if expires_at is None else expires_at > until)  # of unknown age, it is renewed at first use
