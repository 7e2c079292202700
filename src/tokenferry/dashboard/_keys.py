"""The gateway's keys: a list, a page for each, and the form that creates one and shows its secret once."""

import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import quote

from tokenferry.actions import (
    NO_ADMIN_KEY,
    KeyChange,
    KeyLimits,
    KeyRequest,
    KnownNames,
    change_key,
    create_key,
    revoke_key,
)
from tokenferry.config_key import parse_duration
from tokenferry.dashboard._forms import FieldFaults, budget_rows, read_budgets
from tokenferry.dashboard._tables import TableOrder
from tokenferry.dashboard._views import DashboardSection, FormAction, Redirect, Shown, Variables, View
from tokenferry.dashboard._visit import Visit
from tokenferry.errors import Conflict, UsageError
from tokenferry.integrations import sample_request, setup_lines
from tokenferry.secret import Secret
from tokenferry.state import check_expiry, check_key_name, check_labels
from tokenferry.views import KeyUse, key_uses

_COLUMNS: Final = {
    "name": "Key",
    "state": "State",
    "used_at": "Last used",
    "today": "Today",
    "budget": "Budgets",
    "rights": "May use",
    "expires": "Expires",
}
_SORTS: Final[Mapping[str, Callable[[KeyUse], Any]]] = {
    "name": lambda one: one.key.name.lower(),
    "state": lambda one: (one.word(time.time()), one.key.name.lower()),
    "used_at": lambda one: -(one.key.last_used_at or 0),
    "today": lambda one: -(one.today.cost + one.today.plan),
    "budget": lambda one: -max((budget.counter.percent for budget in one.budgets), default=-1),
    "expires": lambda one: one.key.expires_at or float("inf"),
}
_ROLES: Final = ("client", "viewer", "metrics")
_MODEL: Final = "claude-haiku-4-5"
"""The model of the sample request, unless the key is limited to others."""
_LIMITS: Final = ("requests_per_minute", "tokens_per_minute", "max_concurrency")


def _list(visit: Visit) -> Variables:
    now, context = time.time(), visit.context
    found = context.keys.list()
    shows_all = visit.query.get("state") == "all"
    shown = [key for key in found if shows_all or key.is_live(now)]
    table = TableOrder(visit, _COLUMNS, _SORTS, first="name")
    return {
        "table": table,
        "keys": table.sorted(key_uses(context.home, shown, context.books, now=now)),
        "total": len(found),
        "hidden": len(found) - len(shown),
        "shows_all": shows_all,
        "now": now,
        "lines_of": _rights,
    }


def _new(visit: Visit) -> Variables:
    broker = visit.context.broker
    names = [account.name for account in broker.book.listing().accounts]
    rows = budget_rows(visit.form, ())
    return {"heading": "Create a key", "roles": _ROLES, "accounts": names, "form": visit.form, "budgets": rows}


def _page(visit: Visit) -> Variables:
    now, context = time.time(), visit.context
    key = context.keys.get(visit.path["id"])
    (one,) = key_uses(context.home, [key], context.books, now=now)
    names = [account.name for account in context.broker.book.listing().accounts]
    return {
        "heading": key.name,
        "one": one,
        "key": key,
        "state_word": one.word(now),
        "accounts": names,
        "form": visit.form,
        "lines_of": _rights,
        "limits": {name: getattr(key.caps, name) for name in _LIMITS},
        "budgets": budget_rows({} if "name" in visit.form else visit.form, key.budgets),
    }


def _rights(one: KeyUse) -> list[str]:
    """Describe what a key may be used for."""
    rights = one.key.rights
    lists = (("models", rights.models), ("providers", rights.providers), ("accounts", rights.accounts))
    parts = [f"{what}: {', '.join(names)}" for what, names in lists if names]
    return parts + ([] if rights.pin is None else [f"pinned to {rights.pin}"])


def _create(visit: Visit) -> Shown:
    form, faults = visit.form, FieldFaults()
    role = form.get("role", "client")
    if role not in _ROLES:
        raise UsageError(NO_ADMIN_KEY)
    name, expires = form.get("name", "").strip(), None
    with faults.at("name"):
        check_key_name(name)
        if any(name in {key.name, key.id} for key in visit.context.keys.list()):
            raise Conflict(f"there is a client key {name} already; choose another name")
    with faults.at("expires"):
        expires = _seconds(form.get("expires", ""))
        check_expiry(None if expires is None else int(time.time()) + expires, time.time())
    asked = KeyRequest(
        name=name,
        role=role,  # type: ignore[arg-type]  # it was looked up
        expires_in=expires,
        **_use(visit, faults),
    )
    faults.check()
    made = create_key(visit.context, visit.session, asked)
    url = visit.context.base or ""
    lines = setup_lines(made.info.name, Secret(made.key), url) if role == "client" and url else []
    model = next((name for name in made.info.rights.models if "*" not in name), _MODEL)
    sample = sample_request(model) if lines else ""
    return Shown("key_made.html", {"heading": "Key created", "made": made, "lines": lines, "sample": sample})


def _change(visit: Visit) -> Redirect:
    key, faults = visit.context.keys.get(visit.path["id"]), FieldFaults()
    asked = _use(visit, faults)
    faults.check()
    asked |= {
        "labels": {**dict.fromkeys(key.labels, None), **asked["labels"]},
        "providers": _words(visit.form.get("providers", "")),
    }
    changed = change_key(visit.context, visit.session, key.id, KeyChange(**asked))
    return Redirect(_place(changed.info.id), f"Changed key {changed.info.name}, in running gateways within a second.")


def _rename(visit: Visit) -> Redirect:
    name = visit.form.get("name", "").strip()
    changed = change_key(visit.context, visit.session, visit.path["id"], KeyChange(name=name))
    return Redirect(_place(changed.info.id), f"The key's name is {changed.info.name} now; it is still the same key.")


def _revoke(visit: Visit) -> Redirect:
    done = revoke_key(visit.context, visit.session, visit.path["id"])
    return Redirect("/dashboard/keys", f"Revoked key {done.info.name}: it opens nothing any more.")


def _place(key: str) -> str:
    return f"/dashboard/keys/{quote(key, safe='')}"


def _use(visit: Visit, faults: FieldFaults) -> dict[str, Any]:
    """Read the form's rights, limits and budgets of a key."""
    form, known = visit.form, KnownNames.of(visit.context.broker)
    accounts, pin, labels = _words(form.get("accounts", "")), form.get("pin") or None, dict[str, str]()
    with faults.at("accounts"):
        known.check_accounts(accounts)
    with faults.at("pin"):
        known.check_accounts([pin] if pin else [])
    with faults.at("labels"):
        labels = _labels(form.get("labels", ""))
    return {
        "models": _words(form.get("models", "")),
        "accounts": accounts,
        "pin": pin,
        "labels": labels,
        "limits": _limits(form, faults),
        "budgets": read_budgets(form, faults),
    }


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[\s,]+", text) if word]


def _labels(text: str) -> dict[str, str]:
    labels: dict[str, str] = {}
    for word in _words(text):
        name, equals, value = word.partition("=")
        if not equals:
            raise UsageError(f"{word[:80]!r} is not a label; write it as NAME=VALUE")
        labels[name] = value
    check_labels(labels)
    return labels


def _limits(form: Mapping[str, str], faults: FieldFaults) -> KeyLimits:
    values: dict[str, Any] = {}
    for name in _LIMITS:
        text = form.get(name, "").strip()
        with faults.at(name):
            if text and not (text.isascii() and text.isdecimal() and len(text) <= 12):  # noqa: PLR2004  # digits of a limit
                raise UsageError(f"{text[:40]!r} is not a whole number; leave it empty for no limit")
            values[name] = int(text) if text and int(text) else None
    return KeyLimits(**values)


def _seconds(text: str) -> int | None:
    text = text.strip()
    if not text:
        return None
    found = None if text.isdecimal() else parse_duration(text)
    if found is None:
        raise UsageError(f"{text[:40]!r} is not a span of time; give a number and a unit of s m h d w, such as 90d")
    return int(found)


_NEW: Final = View("/keys/new", "key_new.html", _new, roles=frozenset(("admin",)))
_KEY: Final = View("/keys/{id}", "key.html", _page)

KEYS: Final = DashboardSection(
    views=(View("/keys", "keys.html", _list, title="Keys"), _NEW, _KEY),
    actions=(
        FormAction("/keys/new", _create, _NEW),
        FormAction("/keys/{id}", _change, _KEY),
        FormAction("/keys/{id}/rename", _rename, _KEY),
        FormAction("/keys/{id}/revoke", _revoke, _KEY),
    ),
)
