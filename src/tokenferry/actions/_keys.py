"""The gateway's keys. Only the command creates, changes and revokes admin keys."""

import time
from collections.abc import Sequence
from typing import Any, Final

from msgspec import UNSET
from msgspec.structs import replace

from tokenferry.actions._actor import OPERATOR, Actor
from tokenferry.actions._context import ActionContext
from tokenferry.actions._known_names import KnownNames
from tokenferry.actions._models import KeyChange, KeyDone, KeyInfo, KeyLimits, KeyMade, KeyRequest, KeyRights, moment
from tokenferry.audit import note_change
from tokenferry.broker import is_foreign
from tokenferry.errors import PolicyRefused
from tokenferry.settings import NO_CAPS, Caps
from tokenferry.state import EVERYTHING, KEY_CAPS, ClientKey, Rights, key_caps

NO_ADMIN_KEY: Final = "only the command creates an admin key: tokenferry key create NAME --role admin"
_LISTS = ("models", "providers", "accounts")


def list_keys(context: ActionContext) -> list[KeyInfo]:
    """List every key, expired and revoked ones too."""
    return [_info(one) for one in context.keys.list()]


def create_key(context: ActionContext, by: Actor, asked: KeyRequest) -> KeyMade:
    """Create a key for inference, or one that only reads, and return it this once."""
    if asked.role == "admin" and by is not OPERATOR:
        raise PolicyRefused(NO_ADMIN_KEY)
    rights = _rights(context, asked, EVERYTHING)
    _check_owner(context, ClientKey("", asked.name, asked.role, 0, "", labels=asked.labels, rights=rights))
    expires_at = None if asked.expires_in is None else int(time.time()) + asked.expires_in
    made, secret = context.keys.create(
        asked.name,
        role=asked.role,
        labels=asked.labels,
        expires_at=expires_at,
        rights=rights,
        caps=_caps(asked.limits, NO_CAPS),
        budgets=asked.budgets,
    )
    _note(context, "key.create", made, by, role=made.role, expires_at=expires_at, **_facts(made))
    return KeyMade(message=f"made {made.role} key {made.name}", key=secret.reveal(), info=_info(made))


def change_key(context: ActionContext, by: Actor, name: str, asked: KeyChange) -> KeyDone:
    """Change a key's name and labels, what it may be used for, and how much."""
    found = _own(by, context.keys.get(name))
    rights = _rights(context, asked, found.rights)
    labels = {name: value for name, value in {**found.labels, **asked.labels}.items() if value is not None}
    _check_owner(context, replace(found, labels=labels, rights=rights))
    before = found
    if asked.budgets is not UNSET:
        found = context.keys.allot(found.id, asked.budgets or ())
    if (limits := asked.limits) is not UNSET:
        found = context.keys.limit(found.id, lambda caps: _caps(limits, caps))
    if rights != found.rights:
        found = context.keys.restrict(found.id, lambda _: rights)
    if found != before:
        _note(context, "key.set", found, by, **_facts(found))
    if asked.labels and labels != before.labels:
        found = context.keys.label(found.id, asked.labels)
        _note(context, "key.label", found, by)
    if asked.name is not UNSET and asked.name != found.name:
        old, found = found.name, context.keys.rename(found.id, asked.name)
        _note(context, "key.rename", found, by, old_name=old)
    return KeyDone(message=f"changed key {found.name}", info=_info(found))


def revoke_key(context: ActionContext, by: Actor, name: str) -> KeyDone:
    """Revoke a key for good, in running gateways within a second."""
    (revoked,) = revoke_keys(context, by, (name,))
    return KeyDone(message=f"revoked key {revoked.name}", info=_info(revoked))


def revoke_keys(context: ActionContext, by: Actor, names: Sequence[str]) -> tuple[ClientKey, ...]:
    """Revoke keys: all that are named, or none."""
    if by is not OPERATOR:
        for name in names:
            _own(by, context.keys.get(name))
    revoked = context.keys.revoke(*names)
    for key in revoked:
        _note(context, "key.revoke", key, by, role=key.role)
    return revoked


def _check_owner(context: ActionContext, key: ClientKey) -> None:
    """Raise `PolicyRefused` for another person's key that could be served by a subscription."""
    if is_foreign(key):  # own keys don't depend on the configuration, which may be broken
        context.broker.check_keys([key])


def _facts(key: ClientKey) -> dict[str, str | None]:
    """Return a key's rights and limits for `audit.log`."""
    rights = None if key.rights.is_everything else key.rights.words
    limits = str(key.caps) if key.caps.is_limited else None
    return {"rights": rights, "budgets": ", ".join(key.budgets) or None, "limits": limits}


def _own(by: Actor, found: ClientKey) -> ClientKey:
    """Return the key, if the actor may change it. Raises `PolicyRefused`."""
    if found.admin and by is not OPERATOR:
        raise PolicyRefused(
            f"{found.name} is an admin key, which only the command changes: tokenferry key revoke {found.name}"
        )
    return found


def _rights(context: ActionContext, asked: KeyRequest | KeyChange, old: Rights) -> Rights:
    """Apply the requested rights to the old ones. Raises as `KnownNames.check`."""
    values: dict[str, Any] = {name: getattr(old, name) for name in (*_LISTS, "pin")}
    for name in values:
        value = getattr(asked, name)
        if value is not UNSET:
            values[name] = value if name == "pin" else tuple(dict.fromkeys(value or ()))
    rights = Rights(**values)
    if rights.accounts or rights.pin or rights.providers:
        KnownNames.of(context.broker).check(rights)
    return rights


def _caps(asked: KeyLimits, old: Caps) -> Caps:
    """Apply the requested limits to the old ones. Raises `UsageError`."""
    values = {name: getattr(old, name) for name in KEY_CAPS}
    given = {name: value or 0 for name in KEY_CAPS if (value := getattr(asked, name)) is not UNSET}
    return key_caps(**values | given)


def _note(context: ActionContext, action: str, changed: ClientKey, by: Actor, **details: str | int | None) -> None:
    who = {"id": changed.id, "fingerprint": changed.fingerprint, "client": by.name or None}
    note_change(context.home, action, changed.name, **who, **details)


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
        limits=KeyLimits(**{name: getattr(key.caps, name) or None for name in KEY_CAPS}),
        budgets=list(key.budgets),
    )
