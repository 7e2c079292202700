"""Settings: every key of config.toml with its value; changes with their diff."""

import re
from collections.abc import Sequence
from functools import reduce
from typing import Any, Final
from urllib.parse import quote

from msgspec import Struct, json

from tokenferry.config_changes import (
    ConfigChange,
    SettingNow,
    check_use,
    propose_change,
    protected_by,
    settings_now,
    undo_of,
    write_change,
    write_undo,
)
from tokenferry.dashboard._views import DashboardSection, FormAction, Redirect, Shown, Variables, View
from tokenferry.dashboard._visit import Visit
from tokenferry.errors import Conflict, PolicyRefused, UnknownName
from tokenferry.secret import without_secrets

_STARTS: Final = frozenset(("host", "port", "allow_remote", "uds", "tls_cert", "tls_key", "workers"))
"""The keys of [server] that take effect only at a gateway's start."""
_KEY_LINE: Final = re.compile(r"((?:api_key|webhook)\s*=\s*)\S.*")


class _Section(Struct, frozen=True):
    name: str
    settings: Sequence[SettingNow]


def _list(visit: Visit) -> Variables:
    context, text = visit.context, visit.query.get("q", "").strip().lower()
    shows_all = visit.query.get("all") == "1"
    found = settings_now(context.home, _in_use(visit))
    settings = [
        one
        for one in found.settings
        if (text in one.path.lower() or text in one.sentence.lower())
        and (shows_all or one.is_set or text or one.is_plain)
    ]
    sections: dict[str, list[SettingNow]] = {}
    for one in settings:
        sections.setdefault(one.section, []).append(one)
    undo = undo_of(context.home)
    return {
        "found": found,
        "sections": [_Section(name, members) for name, members in sections.items()],
        "shows_all": shows_all,
        "undo": undo,
        "undo_lines": [] if undo is None else _shown(undo),
        "value_of": _value,
    }


def _one(visit: Visit) -> Variables:
    one = _setting(visit, visit.path["name"])
    return {
        "heading": one.path,
        "one": one,
        "form": visit.form,
        "value_of": _value,
        "needs_restart": _restarts(one.path),
    }


def _setting(visit: Visit, name: str) -> SettingNow:
    for one in settings_now(visit.context.home, _in_use(visit)).settings:
        if one.path == name:
            return one
    raise UnknownName(f"there is no setting {name[:80]!r}")


def _in_use(visit: Visit) -> set[str]:
    """Return the providers that have accounts; no web page may change where these credentials are sent."""
    return {account.provider for account in visit.context.broker.book.listing().accounts}


def _preview(visit: Visit) -> Shown:
    """Show a change's diff; nothing is written yet."""
    change = _proposed(visit)
    return Shown(
        "setting_preview.html",
        {
            "heading": "Save this change?",
            "name": visit.path["name"],
            "change": change,
            "lines": _shown(change),
            "needs_restart": _restarts(visit.path["name"]),
            "asked": {name: visit.form.get(name, "") for name in ("value", "unset")},
        },
    )


def _save(visit: Visit) -> Redirect:
    change = _proposed(visit)
    if change.digest != visit.form.get("digest"):
        raise Conflict("config.toml was changed since; look at the change again, then save it")
    write_change(visit.context.home, change, by=visit.session.name)
    restart = " It takes effect at the gateway's next start." if _restarts(visit.path["name"]) else ""
    return Redirect("/dashboard/settings", f"Saved {visit.path['name']}.{restart}")


def _undo(visit: Visit) -> Redirect:
    change = undo_of(visit.context.home)
    if change is not None:
        _check_allowed(visit, change)
    write_undo(visit.context.home, visit.form.get("digest", ""), by=visit.session.name)
    return Redirect("/dashboard/settings", "config.toml is as it was before the last change.")


def _proposed(visit: Visit) -> ConfigChange:
    """Return the change that a form asks for. Raises `PolicyRefused` if only a command may make it, `ConfigError`."""
    home, name = visit.context.home, visit.path["name"]
    one = _setting(visit, name)
    if one.command is not None:
        raise PolicyRefused(f"{name} can only be changed in a terminal, with: {one.command}")
    is_unset = visit.form.get("unset") == "1"
    change = propose_change(home.config, [(name, None if is_unset else visit.form.get("value", ""))])
    _check_allowed(visit, change)
    check_use(home, change.new.config, visit.context.keys.list())
    return change


def _check_allowed(visit: Visit, change: ConfigChange) -> None:
    """Raise `PolicyRefused` if a change touches a setting that only a command may change."""
    if (path := protected_by(change, _in_use(visit))) is not None:
        raise PolicyRefused(
            f"this would change {path}, which can only be changed in a terminal, with: tokenferry config edit"
        )


def _restarts(name: str) -> bool:
    section, _, key = name.partition(".")
    return section == "server" and key in _STARTS


def _value(value: Any) -> str:
    """Format a value for the input field."""
    if value is None:
        return ""
    if isinstance(value, str):
        return without_secrets(value)
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ", ".join(value)
    return without_secrets(json.encode(value).decode())


def _shown(change: ConfigChange) -> list[str]:
    """The lines of a change's diff without what may be a secret."""
    settings = (*change.old.effective(), *change.new.effective())
    hidden = sorted({text for one in settings for text in one.hidden}, key=len, reverse=True)
    lines = [_KEY_LINE.sub(r"\1…", line) for line in change.diff()]
    return [without_secrets(reduce(lambda shown, text: shown.replace(text, "…"), hidden, line)) for line in lines]


def _place(name: str) -> str:
    return f"/dashboard/settings/{quote(name, safe='')}"


_LIST: Final = View("/settings", "settings.html", _list, title="Settings")
_ONE: Final = View("/settings/{name}", "setting.html", _one)

SETTINGS: Final = DashboardSection(
    views=(_LIST, _ONE),
    actions=(
        FormAction("/settings/undo", _undo, _LIST),
        FormAction("/settings/{name}/preview", _preview, _ONE),
        FormAction("/settings/{name}/save", _save, _ONE),
    ),
)
