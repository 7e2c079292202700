"""The accounts: a list, a page for each, and what can be done with them. Logging in is in `_logins.py`."""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

from msgspec import Struct

from tokenferry.actions import (
    AccountChange,
    AccountRequest,
    CooldownInfo,
    KnownNames,
    add_account,
    change_account,
    confirm_account,
    end_cooldowns,
    list_cooldowns,
    refresh_token,
    remove_account,
    secret_of,
    verify_account,
)
from tokenferry.audit import changes_of
from tokenferry.dashboard._forms import FieldFaults
from tokenferry.dashboard._logins import login_actions, login_view, pending
from tokenferry.dashboard._tables import TableOrder
from tokenferry.dashboard._views import DashboardSection, FormAction, Redirect, Variables, View
from tokenferry.dashboard._visit import Visit, sentence
from tokenferry.errors import Conflict, CredentialRefused, TokenferryError, UsageError
from tokenferry.moments import later_moment, moment_after, zone_of
from tokenferry.readiness import AccountRow, account_row, account_rows, models
from tokenferry.secret import Secret
from tokenferry.stores import Account, check_account_name
from tokenferry.views import WindowLine, WindowShare, open_windows, window_lines

_COLUMNS: Final = {
    "order": "Order",
    "name": "Account",
    "provider": "Provider",
    "state": "State",
    "used": "Limits",
}
_URGENCY: Final = (
    "needs-login",
    "broken",
    "refused",
    "locked",
    "copied",
    "uncertain",
    "backing-off",
    "limited",
    "paused",
)
_DEAD: Final = frozenset(("needs-login", "refused"))
_MOST: Final = 1_000_000
_DAY: Final = 86_400.0
_CHARTED: Final = 7
"""The days in the chart of an account's windows."""
_PAGES: Final = {"list": "/dashboard/accounts", "now": "/dashboard/"}
"""The page that a form returns to, by its field `from`."""


class _Shown(Struct, frozen=True):
    """An account as the list shows it."""

    row: AccountRow
    windows: Sequence[WindowShare]
    order: int

    @property
    def name(self) -> str:
        return self.row.name

    @property
    def account(self) -> Account | None:
        if self.row.document is not None:
            return self.row.document.account
        return None if self.row.header is None else self.row.header.account

    @property
    def provider(self) -> str:
        return "" if self.account is None else self.account.provider

    @property
    def used(self) -> float:
        return max((one.used for one in self.windows), default=-1.0)

    @property
    def said(self) -> str:
        """The state's text without the state's word."""
        word, limit = self.row.word, self.row.limit
        if word == "limited" and limit is not None:
            return models(limit).lstrip(", ") or limit.evidence.rstrip(".") or limit.cause
        text = self.row.text.removeprefix(word.replace("-", " ")).lstrip(",:; ")
        if word == "paused" and self.row.until is not None:
            text = text.partition("; ")[2]
        return text

    @property
    def note(self) -> str:
        return ", ".join(part for part in self.row.note.split(", ") if not part.startswith("paused"))

    @property
    def is_paused(self) -> bool:
        return self.account is not None and self.account.paused

    @property
    def is_dead(self) -> bool:
        """Whether a person has to log in again."""
        account = self.account
        is_ours = account is not None and account.kind == "oauth" and account.owner == "tokenferry"
        return is_ours and self.row.state in _DEAD

    @property
    def urgency(self) -> int:
        return _URGENCY.index(self.row.word) if self.row.word in _URGENCY else len(_URGENCY)


_SORTS: Final[Mapping[str, Callable[[_Shown], Any]]] = {
    "order": lambda one: one.order,
    "name": lambda one: one.name.lower(),
    "provider": lambda one: (one.provider, one.order),
    "state": lambda one: (one.urgency, one.order),
    "used": lambda one: (-one.used, one.order),
}


def _list(visit: Visit) -> Variables:
    windows = _windows(visit)
    rows = account_rows(visit.context.broker)
    found = [_Shown(row, windows.get(row.name, ()), order) for order, row in enumerate(rows)]
    table = TableOrder(visit, _COLUMNS, _SORTS, first="order")
    wanted = visit.query.get("provider", ""), visit.query.get("state", ""), visit.query.get("q", "").lower()
    shown = [one for one in found if _fits(one, *wanted)]
    return {
        "table": table,
        "accounts": table.sorted(shown),
        "total": len(found),
        "dead": [one for one in found if one.is_dead],
        "open": {one.provider for one in visit.service.offers() if not one.needs_statement},
        "providers": sorted({one.provider for one in found if one.provider}),
        "states": sorted({one.row.word for one in found} - {"paused"}),
        "addable": sorted(visit.context.broker.providers),
        "pending": pending(visit),
    }


def _fits(one: _Shown, provider: str, state: str, text: str) -> bool:
    has_state = state in {"", one.row.word} or (state == "paused" and one.is_paused)
    return has_state and provider in {"", one.provider} and text in one.name.lower()


def _page(visit: Visit) -> Variables:
    name, broker = visit.path["name"], visit.context.broker
    row = account_row(broker, name)
    shown = _Shown(row, _windows(visit).get(name, ()), 0)
    assert row.document is not None
    details = row.to_json()
    provider = broker.providers.get(row.document.account.provider)
    offers = {one.provider: one for one in visit.service.offers()}
    return {
        "heading": name,
        "one": shown,
        "details": details,
        "offer": offers.get(provider.name) if provider is not None and details["kind"] == "oauth" else None,
        "limits": visit.context.limits(name),
        "cooldowns": _cooldowns_of(visit, name),
        "bound": visit.context.keys.bound_to(name),
        "pending": [one for one in pending(visit) if one.account == name],
        "lines": _lines(visit, name),
        "days": [time.time() - day * _DAY for day in range(_CHARTED - 1, -1, -1)],
        "changes": changes_of(visit.context.home, name),
        "zone": f"{datetime.now(zone_of(None)):%Z}",
    }


def _windows(visit: Visit) -> Mapping[str, Sequence[WindowShare]]:
    """Return the windows of each account by its provider's last answers, of all processes."""
    found: dict[str, list[WindowShare]] = {}
    with contextlib.suppress(TokenferryError):  # which Now tells
        usage = visit.context.books.usage()
        for one in () if usage is None else open_windows(usage, time.time()):
            found.setdefault(one.account, []).append(one)
    return found


def _lines(visit: Visit, name: str) -> list[WindowLine]:
    """Return how much of its windows was used in the last days."""
    now = time.time()
    with contextlib.suppress(TokenferryError):  # which Now tells
        if (usage := visit.context.books.usage()) is not None:
            return window_lines(usage, name, now - _CHARTED * _DAY, now)
    return []


def _cooldowns_of(visit: Visit, name: str) -> list[CooldownInfo]:
    organization = visit.context.state.organizations.all().get(name)
    return [one for one in list_cooldowns(visit.context) if one.name in {name, organization}]


def _home(name: str) -> str:
    return f"/dashboard/accounts/{quote(name, safe='')}"


def _add(visit: Visit) -> Redirect:
    form, faults, key = visit.form, FieldFaults(), None
    name, provider = form.get("name", "").strip(), form.get("provider") or None
    with faults.at("name"):
        check_account_name(name)
        if name in visit.context.broker.book.store.names():
            raise Conflict(f"account {name!r} exists already; its page replaces its key")
    with faults.at("provider"):
        KnownNames.of(visit.context.broker).check_providers([provider] if provider else [])
    with faults.at("key"):
        key = _key(visit)
    faults.check()
    added = add_account(visit.context, visit.session, AccountRequest(name=name, provider=provider, key=key))
    return Redirect(f"{_home(added.account.name)}?added=1", sentence(added.message))


def _replace(visit: Visit) -> Redirect:
    name = visit.path["name"]
    account = visit.context.broker.book.read(name).account
    asked = AccountRequest(name=name, provider=account.provider, key=_key(visit), replace=True)
    return Redirect(_home(name), sentence(add_account(visit.context, visit.session, asked).message))


def _key(visit: Visit) -> Secret:
    if (key := secret_of(visit.form.get("key", ""))) is None:
        raise UsageError("the key is empty or has blanks in it; paste the whole key")
    return key


def _pause(visit: Visit) -> Redirect:
    """Pause it `for` a span, `until` a moment of the browser's `zone`, or until it is resumed; or resume it."""
    name, form, now = visit.path["name"], visit.form, time.time()
    is_paused, zone, end = form.get("paused") == "yes", zone_of(form.get("zone") or None), None
    if is_paused and form.get("until"):
        end = later_moment(form["until"], now, zone)
    elif is_paused and form.get("for"):
        end = moment_after(form["for"], now)
    change_account(visit.context, visit.session, name, AccountChange(paused=is_paused, paused_until=end))
    until = "you resume it" if end is None else f"{end.astimezone(zone):%Y-%m-%d %H:%M %Z}"
    what = f"is out of service until {until}" if is_paused else "is back in service"
    return Redirect(_back(visit, name), f"Account {name} {what}.")


def _order(visit: Visit) -> Redirect:
    name, given = visit.path["name"], visit.form.get("priority", "").strip()
    if not given.removeprefix("-").isdecimal() or abs(priority := int(given[:9])) > _MOST:
        raise UsageError("a priority is a whole number, and lower serves first")
    change_account(visit.context, visit.session, name, AccountChange(priority=priority))
    return Redirect(_back(visit, name), f"Account {name} has priority {priority}.")


def _label(visit: Visit) -> Redirect:
    name, label = visit.path["name"], visit.form.get("label", "").strip()
    value = visit.form.get("value", "").strip() or None
    change_account(visit.context, visit.session, name, AccountChange(labels={label: value}))
    return Redirect(_home(name), f"Label {label} was {'removed' if value is None else 'set'}.")


def _refresh(visit: Visit) -> Redirect:
    name = visit.path["name"]
    refresh_token(visit.context, visit.session, name)
    return Redirect(_home(name), f"The login of {name} was refreshed.")


def _check(visit: Visit) -> Redirect:
    name = visit.path["name"]
    found = verify_account(visit.context, name)
    if found.result == "refused":
        raise CredentialRefused(found.reason)
    return Redirect(_home(name), sentence(found.reason))


def _confirm(visit: Visit) -> Redirect:
    name = visit.path["name"]
    return Redirect(_home(name), sentence(confirm_account(visit.context, visit.session, name).message))


def _clear(visit: Visit) -> Redirect:
    name = visit.path["name"]
    return Redirect(_home(name), sentence(end_cooldowns(visit.context, visit.session, name).message))


def _remove(visit: Visit) -> Redirect:
    done = remove_account(visit.context, visit.session, visit.path["name"])
    return Redirect("/dashboard/accounts", sentence(done.message))


def _back(visit: Visit, name: str) -> str:
    return _PAGES.get(visit.form.get("from", "")) or _home(name)


_LIST: Final = View("/accounts", "accounts.html", _list, title="Accounts")
_ACCOUNT: Final = View("/accounts/{name}", "account.html", _page)

ACCOUNTS: Final = DashboardSection(
    views=(_LIST, _ACCOUNT, login_view),
    actions=(
        FormAction("/accounts", _add, _LIST),
        FormAction("/accounts/{name}/key", _replace, _ACCOUNT),
        FormAction("/accounts/{name}/pause", _pause, _ACCOUNT),
        FormAction("/accounts/{name}/order", _order, _ACCOUNT),
        FormAction("/accounts/{name}/label", _label, _ACCOUNT),
        FormAction("/accounts/{name}/refresh", _refresh, _ACCOUNT),
        FormAction("/accounts/{name}/check", _check, _ACCOUNT),
        FormAction("/accounts/{name}/confirm", _confirm, _ACCOUNT),
        FormAction("/accounts/{name}/clear", _clear, _ACCOUNT),
        FormAction("/accounts/{name}/remove", _remove, _ACCOUNT),
        *login_actions(_ACCOUNT),
    ),
)
