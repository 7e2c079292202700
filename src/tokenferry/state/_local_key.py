import contextlib
import os
import re
from typing import Final

from tokenferry.audit import note_change
from tokenferry.errors import CorruptFile, UnknownName
from tokenferry.secret import Secret
from tokenferry.settings import Home
from tokenferry.state._client_key import ClientKey
from tokenferry.state._home_values import gateway_id
from tokenferry.state._keys import INFERENCE_PREFIX, KEY_LENGTH
from tokenferry.state._state import State
from tokenferry.stores import FileLock, read_private_file, replace_private_file

LOCAL_KEY_NAME: Final = "local"
_HOST_LABEL: Final = "tokenferry/host"
_NO_NAME: Final = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_HOST: Final = 48
_ID_LENGTH: Final = 8
_LOCK_TIMEOUT: Final = 10.0


def local_key_name(home: Home, state: State) -> str:
    """Give the name of this home's local key.

    In a shared database the name includes the host and the home, since two homes with one name would revoke each
    other's key.
    """
    return f"{LOCAL_KEY_NAME}@{_host()}+{gateway_id(home)[:_ID_LENGTH]}" if state.is_shared else LOCAL_KEY_NAME


def is_local_key(key: ClientKey) -> bool:
    """Tell whether it is the local key of some machine, which serves that machine's user alone."""
    return key.name == LOCAL_KEY_NAME or _HOST_LABEL in key.labels


def _host() -> str:
    return _NO_NAME.sub("-", os.uname().nodename)[:_LONGEST_HOST]


def read_local_key(home: Home) -> Secret | None:
    """Read the key in the file, whether it is still valid or not; None without a file.

    Raises `UnsafeFile`, `CorruptFile`.
    """
    try:
        raw = read_private_file(home.local_key)
    except FileNotFoundError:
        return None
    try:
        secret = Secret(raw.decode("ascii").strip())
    except ValueError:
        secret = None
    if secret is not None and len(secret.reveal()) == KEY_LENGTH and secret.reveal().startswith(INFERENCE_PREFIX):
        return secret
    raise CorruptFile(f"{home.local_key} holds no key; remove it, and the next tokenferry serve makes a new one")


def local_key(home: Home, state: State | None = None) -> Secret:
    """Give the client key of this machine's user: the file's if it is valid, else a new one.

    If the database doesn't know the file's key, for example after its loss, the key is registered again. A revoked key
    is replaced.
    """
    if state is None:
        with State(home.state) as opened:
            return local_key(home, opened)
    with FileLock(home.local_key, home.locks).held(_LOCK_TIMEOUT):
        secret = read_local_key(home)
        if secret is not None:
            if state.keys.verify(secret.reveal()) is not None:
                return secret
            if state.keys.revoked(secret):
                secret = None
        name = local_key_name(home, state)
        with contextlib.suppress(UnknownName):
            (old,) = state.keys.revoke(name)
            note_change(home, "key.revoke", old.name, id=old.id, fingerprint=old.fingerprint)
        labels = {_HOST_LABEL: _host()} if state.is_shared else {}
        key, secret = state.keys.create(name, labels=labels, secret=secret)
        note_change(home, "key.create", key.name, id=key.id, fingerprint=key.fingerprint)
        replace_private_file(home.local_key, secret.reveal().encode("ascii") + b"\n")
        return secret
