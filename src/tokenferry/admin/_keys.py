"""`/api/keys`: the gateway's keys. Admin keys are made, changed and revoked by the command alone."""

import time
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter

from tokenferry.actions import ActionContext
from tokenferry.admin._key import Key
from tokenferry.admin._models import KeyChange, KeyDone, KeyInfo, KeyMade, KeyRequest, KeyRights, moment
from tokenferry.audit import note_change
from tokenferry.errors import PolicyRefused, UnknownAccount, UnknownProvider
from tokenferry.state import EVERYTHING, ClientKey, Rights

_LISTS = ("models", "providers", "accounts")


def key_routes(parts: ActionContext) -> APIRouter:
    routes = APIRouter(prefix="/api")
    keys = parts.keys

    @routes.get("/keys")
    def list_keys() -> list[KeyInfo]:
        """List every key, expired and revoked ones too."""
        return [_info(one) for one in keys.list()]

    @routes.post("/keys", status_code=201)
    def create_key(key: Key, asked: KeyRequest) -> KeyMade:
        """Make a key for inference, or one that only reads, and give it this once."""
        if asked.role == "admin":
            raise PolicyRefused("an admin key is made by the command alone: tokenferry key create NAME --role admin")
        rights = _rights(parts, asked, EVERYTHING, set(_LISTS) | {"pin"})
        parts.broker.check_keys([ClientKey("", asked.name, asked.role, 0, "", labels=asked.labels, rights=rights)])
        expires_at = None if asked.expires_in is None else int(time.time()) + asked.expires_in
        made, secret = keys.create(
            asked.name, role=asked.role, labels=asked.labels, expires_at=expires_at, rights=rights
        )
        _note(parts, "key.create", made, key, role=made.role, expires_at=expires_at)
        return KeyMade(message=f"made {made.role} key {made.name}", key=secret.reveal(), info=_info(made))

    @routes.patch("/keys/{id}")
    def change_key(key: Key, id: str, asked: KeyChange) -> KeyDone:  # noqa: A002  # the parameter's name in the path
        """Change a key's labels and what it may be used for."""
        found = _own(keys.get(id))
        rights = _rights(parts, asked, found.rights, asked.model_fields_set)
        labels = {name: value for name, value in {**found.labels, **asked.labels}.items() if value is not None}
        parts.broker.check_keys([ClientKey("", found.name, found.role, 0, "", labels=labels, rights=rights)])
        if rights != found.rights:
            found = keys.restrict(found.id, lambda _: rights)
        if asked.labels:
            found = keys.label(found.id, asked.labels)
        _note(parts, "key.set", found, key)
        return KeyDone(message=f"changed key {found.name}", info=_info(found))

    @routes.delete("/keys/{id}")
    def revoke_key(key: Key, id: str) -> KeyDone:  # noqa: A002  # see above
        """Make a key worthless for good, in running gateways within a second."""
        (revoked,) = keys.revoke(_own(keys.get(id)).id)
        _note(parts, "key.revoke", revoked, key, role=revoked.role)
        return KeyDone(message=f"revoked key {revoked.name}", info=_info(revoked))

    return routes


def _own(found: ClientKey) -> ClientKey:
    """The key, if the API may change it. Raises `PolicyRefused`."""
    if found.admin:
        raise PolicyRefused(
            f"{found.name} is an admin key, which is changed by the command alone: tokenferry key revoke {found.name}"
        )
    return found


def _rights(parts: ActionContext, asked: KeyRequest | KeyChange, old: Rights, given: set[str]) -> Rights:
    """Those that a key has with what was asked for. Raises `UnknownAccount`, `UnknownProvider`."""
    values: dict[str, Any] = {name: getattr(old, name) for name in (*_LISTS, "pin")}
    for name in given & values.keys():
        value = getattr(asked, name)
        values[name] = value if name == "pin" else tuple(dict.fromkeys(value or ()))
    rights = Rights(**values)
    named = [*rights.accounts, *([] if rights.pin is None else [rights.pin])]
    _check_named(named, parts.broker.book.names() if named else (), UnknownAccount, "account")
    _check_named(rights.providers, tuple(parts.broker.providers), UnknownProvider, "provider")
    return rights


def _check_named(
    names: Sequence[str], known: Sequence[str], kind: type[UnknownAccount | UnknownProvider], what: str
) -> None:
    for name in names:
        if name not in known:
            raise kind(f"there is no {what} {name[:64]!r}; known: {', '.join(known) or 'none'}")


def _note(parts: ActionContext, action: str, changed: ClientKey, by: ClientKey, **details: str | int | None) -> None:
    note_change(
        parts.home, action, changed.name, id=changed.id, fingerprint=changed.fingerprint, client=by.name, **details
    )


def _info(key: ClientKey) -> KeyInfo:
    rights = key.rights
    return KeyInfo(
        id=key.id,
        name=key.name,
        role=key.role,
        state=key.state(time.time()),
        fingerprint=key.fingerprint,
        created_at=moment(key.created_at or None),
        last_used_at=moment(key.last_used_at),
        expires_at=moment(key.expires_at),
        revoked_at=moment(key.revoked_at),
        labels=dict(key.labels),
        rights=KeyRights(
            models=list(rights.models), providers=list(rights.providers), accounts=list(rights.accounts), pin=rights.pin
        ),
    )
