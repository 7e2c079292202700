import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Final

import typer
from msgspec import UNSET

from tokenferry.audit import note_change
from tokenferry.cli._complete import KeyName, key_names
from tokenferry.cli._home import find
from tokenferry.cli._labels import label_change, label_pair
from tokenferry.cli._output import note, say, say_json, say_lines
from tokenferry.cli._probe import gateway_url
from tokenferry.cli._rights import (
    Accounts,
    Budgets,
    Concurrency,
    Models,
    Pin,
    Providers,
    Rpm,
    Tpm,
    caps_json,
    given_limits,
    given_rights,
    rights_json,
)
from tokenferry.cli._table import Cell, Column, labelled, table, time_cell
from tokenferry.cli._typer import JSON, WIDE, examples, new_app
from tokenferry.config_key import parse_duration
from tokenferry.databases import open_state
from tokenferry.errors import TokenferryError, UsageError
from tokenferry.integrations import setup_lines
from tokenferry.readiness import budgets_now, key_word
from tokenferry.secret import Secret
from tokenferry.settings import Home
from tokenferry.state import ClientKey, ClientKeys, Role, read_local_key
from tokenferry.units import moment

app = new_app(
    "Create, list, change and revoke the gateway's client keys.",
    "tokenferry key create laptop",
    "tokenferry key list",
)

_COLUMNS: Final = (
    Column("name"),
    Column("id"),
    Column("role", wide=True),
    Column("state"),
    Column("created", wide=True),
    Column("last used"),
    Column("expires"),
    Column("labels", wide=True),
    Column("limits", wide=True),
    Column("may use", folds=True),
    Column("fingerprint", wide=True),
)


@contextmanager
def _keys() -> Iterator[ClientKeys]:
    with open_state(Home.from_environment()) as state:
        yield state.keys


_OVERSHOOT: Final = (
    "all gateways together may exceed a rate by 31 seconds' worth (or a second's and one request each), and requests "
    "at a time by half (or one each)"
)


@app.command(
    "create",
    epilog=examples(
        "tokenferry key create laptop",
        "KEY=$(tokenferry key create ci --expires 90d --label team=build)",
        "tokenferry key create guest --model 'claude-haiku*' --account work --budget 20usd/day",
        "tokenferry key create build --rpm 60 --tpm 200000",
        "tokenferry key create prometheus --role metrics",
        "tokenferry key create colleague --print-setup",
    ),
)
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The key's name.", show_default=False)],
    *,
    role: Annotated[
        Role,
        typer.Option(
            "--role", help="client: inference; admin: the admin API; viewer: read the admin API; metrics: /metrics."
        ),
    ] = "client",
    expires: Annotated[
        str | None,
        typer.Option("--expires", metavar="SPAN", help="The key's lifetime: 90d, 12h, 30m, 2w."),
    ] = None,
    labels: Annotated[
        list[str] | None, typer.Option("--label", metavar="K=V", help="A label; may be repeated.")
    ] = None,
    models: Models = None,
    providers: Providers = None,
    accounts: Accounts = None,
    pin: Pin = None,
    budgets: Budgets = None,
    rpm: Rpm = None,
    tpm: Tpm = None,
    concurrency: Concurrency = None,
    print_setup: Annotated[
        bool, typer.Option("--print-setup", help="Print lines to send to a colleague instead of the key.")
    ] = False,
    as_json: JSON = False,
) -> None:
    """Create a client key, and show it once.

    It may use every model and account unless you limit it.
    """
    if print_setup and role != "client":
        raise UsageError(f"--print-setup is for tools that call models, which a {role} key can't; leave it out")
    from tokenferry.cli._actions import (  # noqa: PLC0415  # lists don't need it
        OPERATOR,
        KeyLimits,
        KeyRequest,
        acting,
        create_key,
        revoke_keys,
    )

    url = gateway_url(find()[1]) if print_setup else ""
    asked = KeyRequest(
        name=name,
        role=role,
        labels=dict(map(label_pair, labels or [])),
        limits=KeyLimits(**given_limits(rpm, tpm, concurrency)),
        budgets=budgets or [],
        expires_in=None if expires is None else _span(expires),
        **given_rights(models=models, providers=providers, accounts=accounts, pin=pin),
    )
    with acting() as context:
        made = create_key(context, OPERATOR, asked)
        key, secret = context.keys.get(made.info.id), Secret(made.key)
    try:
        if as_json:
            say_json({"key": secret.reveal(), **_to_json(key)})
        elif print_setup:
            say_lines(setup_lines(key.name, secret, url))
        else:
            say(secret.reveal())
    except OSError as fault:  # a key that no one knows must not work
        with acting() as context:
            revoke_keys(context, OPERATOR, (key.id,))
        raise TokenferryError(
            f"client key {key.name} could not be shown ({fault.strerror}), so it is revoked; create it again with "
            "stdout elsewhere"
        ) from None
    if not as_json:
        note(f"this is client key {key.name} ({key.id}); save it now: it is not shown again")


@app.command(
    "list",
    epilog=examples(
        "tokenferry key list",
        "tokenferry key list --json | jq -r '.[] | select(.state == \"live\") | .name'",
    ),
)
def list_(*, wide: WIDE = False, as_json: JSON = False) -> None:
    """List all client keys, including expired and revoked ones."""
    with _keys() as keys:
        found = keys.list()
    if as_json:
        say_json([_to_json(key) for key in found])
    elif found:
        table(_COLUMNS, [_cells(key, word) for key, word in zip(found, _words(found), strict=True)], wide=wide)
    else:
        note("there is no client key yet; create one with: tokenferry key create NAME")


@app.command(
    "show",
    epilog=examples(
        "tokenferry key show laptop",
    ),
)
def show(name: KeyName, *, as_json: JSON = False) -> None:
    """Show a client key's rights, limits and state. The key itself is shown only at its creation."""
    with _keys() as keys:
        key = keys.get(name)
    home, config = find()
    budgets = budgets_now(home, config, [key])
    if as_json:
        say_json(_to_json(key) | {"budget_use": [one.to_json() for one in budgets]})
        return
    lines = {
        "name": key.name,
        "id": key.id,
        "role": key.role,
        "state": f"{_state(key)}: {key.fault}" if key.fault else key_word(key, budgets, time.time()),
        "created": moment(key.created_at),
        "last used": moment(key.last_used_at),
        "expires": moment(key.expires_at),
        "revoked": moment(key.revoked_at),
        "labels": _labels(key),
        "models": _any(key.rights.models),
        "providers": _any(key.rights.providers),
        "accounts": _any(key.rights.accounts),
        "pinned to": key.rights.pin or "-",
        "limits": str(key.caps),
        **({"over hosts": _OVERSHOOT} if config.store.url and key.caps.is_limited else {}),
        "fingerprint": key.fingerprint,
    }
    labelled((*lines.items(), *(("budget", one.sentence(time.time())) for one in budgets)), 13)


@app.command(
    "revoke",
    epilog=examples(
        "tokenferry key revoke laptop",
        "tokenferry key revoke laptop ci key_0f3a5c7e9b1d",
    ),
)
def revoke(
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME...", help="Names or ids.", show_default=False, autocompletion=key_names),
    ],
    *,
    as_json: JSON = False,
) -> None:
    """Revoke client keys for good, all of them or none; running gateways follow within a second."""
    from tokenferry.cli._actions import OPERATOR, acting, revoke_keys  # noqa: PLC0415  # lists don't need it

    with acting() as context:
        revoked = revoke_keys(context, OPERATOR, names)
    if as_json:
        say_json([_to_json(key) for key in revoked])
    else:
        say_lines(f"revoked client key {key.name} ({key.id})" for key in revoked)


@app.command("prune", epilog=examples("tokenferry key prune", "tokenferry key prune --json"))
def prune(*, as_json: JSON = False) -> None:
    """Delete client keys that are revoked or expired."""
    home = Home.from_environment()
    with _keys() as keys:
        forgotten = keys.prune(spared=read_local_key(home))
    for key in forgotten:
        note_change(home, "key.prune", key.name, id=key.id, fingerprint=key.fingerprint)
    if as_json:
        say_json([_to_json(key) for key in forgotten])
    elif forgotten:
        say_lines(f"forgot client key {key.name} ({key.id})" for key in forgotten)
    else:
        note("no client key is revoked or expired")


@app.command(
    "rename",
    epilog=examples(
        "tokenferry key rename laptop old-laptop",
    ),
)
def rename(
    name: KeyName,
    new: Annotated[str, typer.Argument(metavar="NEW", help="The new name.", show_default=False)],
    *,
    as_json: JSON = False,
) -> None:
    """Rename a client key; the key itself stays the same."""
    from tokenferry.cli._actions import OPERATOR, KeyChange, acting, change_key  # noqa: PLC0415  # lists don't need it

    with acting() as context:
        old = context.keys.get(name).name
        change_key(context, OPERATOR, name, KeyChange(name=new))
        key = context.keys.get(new)
    if as_json:
        say_json(_to_json(key))
    else:
        say(f"renamed client key {old} ({key.id}) to {key.name}")


@app.command(
    "set",
    epilog=examples(
        "tokenferry key set laptop --model 'claude-sonnet*' --model 'claude-haiku*'",
        "tokenferry key set laptop --pin work",
        "tokenferry key set laptop --label team=build --label room-",
        "tokenferry key set laptop --any-model --no-pin",
        "tokenferry key set laptop --budget 20usd/day --budget 200usd/month",
        "tokenferry key set laptop --rpm 60 --tpm 200000 --max-concurrency 0",
    ),
)
def set_(
    name: KeyName,
    *,
    models: Models = None,
    providers: Providers = None,
    accounts: Accounts = None,
    pin: Pin = None,
    any_model: Annotated[bool, typer.Option("--any-model", help="Allow every model.")] = False,
    any_provider: Annotated[bool, typer.Option("--any-provider", help="Allow every provider.")] = False,
    any_account: Annotated[bool, typer.Option("--any-account", help="Allow every account.")] = False,
    no_pin: Annotated[bool, typer.Option("--no-pin", help="Remove the pin.")] = False,
    budgets: Budgets = None,
    no_budget: Annotated[bool, typer.Option("--no-budget", help="Remove all budgets.")] = False,
    rpm: Rpm = None,
    tpm: Tpm = None,
    concurrency: Concurrency = None,
    labels: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="K=V|K-", help="Set or remove a label; may be repeated."),
    ] = None,
    as_json: JSON = False,
) -> None:
    """Change a client key's rights, limits and labels; running gateways follow within a second.

    A given list replaces the previous one; other settings stay.
    """
    lifted = (("models", any_model), ("providers", any_provider), ("accounts", any_account), ("pin", no_pin))
    freed = [right for right, is_freed in lifted if is_freed]
    given = given_rights(models=models, providers=providers, accounts=accounts, pin=pin, freed=freed)
    if budgets and no_budget:
        raise UsageError("--budget and --no-budget exclude each other; give one of them")
    from tokenferry.cli._actions import (  # noqa: PLC0415  # lists don't need it
        OPERATOR,
        KeyChange,
        KeyLimits,
        acting,
        change_key,
    )

    limits, wanted = given_limits(rpm, tpm, concurrency), dict(map(label_change, labels or []))
    has_budgets = bool(budgets or no_budget)
    if not (given or has_budgets or limits or wanted):
        raise UsageError("no setting was given; see: tokenferry key set --help")
    asked = KeyChange(
        labels=wanted,
        limits=KeyLimits(**limits) if limits else UNSET,
        budgets=(budgets or []) if has_budgets else UNSET,
        **given,
    )
    with acting() as context:
        change_key(context, OPERATOR, name, asked)
        key = context.keys.get(name)
    rights = "everything" if key.rights.is_everything else key.rights.words
    said = {
        f"may use {', '.join(key.budgets) or 'any amount'}": has_budgets,
        f"may ask for: {key.caps}": limits,
        f"may use {rights}": given,
        f"has labels {_labels(key)}": wanted,
    }
    if as_json:
        say_json(_to_json(key))
    else:
        say_lines(f"client key {key.name} ({key.id}) {sentence}" for sentence, is_said in said.items() if is_said)


def _span(text: str) -> int:
    """Seconds, from a number with its unit."""
    seconds = None if text.isdecimal() else parse_duration(text)  # 90 would be seconds, and the user may mean days
    if seconds is None:
        raise UsageError(f"{text[:80]!r} is not a span of time; give a number and a unit of s m h d w, such as 90d")
    return int(seconds)


def _state(key: ClientKey) -> str:
    return key.state(time.time())


def _labels(key: ClientKey) -> str:
    return ",".join(f"{label}={value}" for label, value in key.labels.items()) or "-"


def _any(names: Sequence[str]) -> str:
    return ", ".join(names) or "any"


def _words(found: Sequence[ClientKey]) -> list[str]:
    """The state of each key, in words for people."""
    now = time.time()
    home, config = find()
    uses = budgets_now(home, config, [key for key in found if key.is_live(now) and key.role == "client"], now=now)
    return [key_word(key, [one for one in uses if one.key == key.name], now) for key in found]


def _cells(key: ClientKey, word: str) -> Sequence[str]:
    now = time.time()
    return (
        key.name,
        key.id,
        key.role,
        Cell(word, None if word == "live" else "warning"),
        *(time_cell(at, now) for at in (key.created_at, key.last_used_at, key.expires_at)),
        _labels(key),
        ", ".join([*([str(key.caps)] if key.caps.is_limited else ()), *key.budgets]) or "-",
        key.rights.words,
        key.fingerprint,
    )


def _to_json(key: ClientKey) -> dict[str, Any]:
    names = ("name", "id", "role", "admin", "created_at", "last_used_at", "expires_at", "revoked_at", "fingerprint")
    return {name: getattr(key, name) for name in names} | {
        "state": _state(key),
        "labels": dict(key.labels),
        "rights": rights_json(key.rights),
        "budgets": list(key.budgets),
        "limits": caps_json(key.caps),
    }
