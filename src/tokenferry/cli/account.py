import time
from datetime import datetime
from typing import Annotated, Final, Literal

import typer
from msgspec import UNSET

from tokenferry.accounts import parse_max_age, read_credential
from tokenferry.broker import Broker, Revocation, Verification
from tokenferry.cli._account_json import account_json, say_account
from tokenferry.cli._attach import attach, attach_claude_code, known_provider, note_account, tell_policy
from tokenferry.cli._complete import AccountName, account_names, provider_names
from tokenferry.cli._describe import COLUMNS, cells, row, rows
from tokenferry.cli._federation import Federal, federation_of
from tokenferry.cli._home import find, know, open_broker, tell_default_provider, what_serves
from tokenferry.cli._input import confirmed, read_secret
from tokenferry.cli._labels import label_change
from tokenferry.cli._output import note, outcome_json, say, say_json
from tokenferry.cli._profile import account_of_profile
from tokenferry.cli._revocation import tell_revocation
from tokenferry.cli._table import labelled, table
from tokenferry.cli._typer import JSON, WIDE, examples, new_app
from tokenferry.config_key import format_duration
from tokenferry.credentials import API_KEY_PREFIX, Credential, Kind
from tokenferry.errors import NeedsLogin, TryLater, UsageError
from tokenferry.interchange import unread_expiry
from tokenferry.moments import later_moment, moment_after, zone_of
from tokenferry.readiness import account_details, limits_of
from tokenferry.stores import Account, Attaching, check_account_name
from tokenferry.units import moment

app = new_app(
    "Add, list, show and remove accounts.",
    "tokenferry account add work --provider anthropic",
    "tokenferry account list",
)

_CHECK_CODES: Final = {"refused": NeedsLogin.exit_code, "unreachable": TryLater.exit_code, "unclear": 1}
_CURES: Final = {
    "refused": "; replace it with: tokenferry account add {name} --replace",
    "unreachable": "; try again later",
    "unclear": "; see: tokenferry account show {name}",
}


@app.command(
    "add",
    epilog=examples(
        "tokenferry account add work --provider anthropic",
        "pass show anthropic | tokenferry account add work",
        "tokenferry account add console --provider console < login.json",
        "tokenferry account add work --replace          replace its credential",
        "tokenferry account add ant --store anthropic-profile --profile work",
        "tokenferry account add ci --workload-identity --identity-token-file /var/run/secrets/identity-token",
    ),
)
def add(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="The account's name.", show_default=False, autocompletion=account_names),
    ],
    *,
    provider: Annotated[
        str | None,
        typer.Option(
            "--provider",
            metavar="NAME",
            help="The provider; optional for sk-ant-api keys.",
            autocompletion=provider_names,
        ),
    ] = None,
    kind: Annotated[
        Literal["api-key", "setup-token", "oauth"] | None,
        typer.Option("--kind", help="The kind; by default recognised by the prefix, else the provider's."),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace the account's credential.")] = False,
    store: Annotated[
        Literal["claude-code", "anthropic-profile"] | None,
        typer.Option("--store", help="Attach another program's login instead of reading stdin."),
    ] = None,
    profile: Annotated[
        str | None, typer.Option("--profile", metavar="NAME", help="The profile to attach; by default the active one.")
    ] = None,
    workload_identity: Annotated[
        bool,
        typer.Option("--workload-identity", help="Exchange the workload's identity token instead of reading stdin."),
    ] = False,
    identity_token_file: Annotated[
        str | None,
        typer.Option(
            "--identity-token-file", metavar="FILE", help="The file with the identity token, read for each exchange."
        ),
    ] = None,
    identity_token_variable: Annotated[
        str | None,
        typer.Option("--identity-token-variable", metavar="NAME", help="The variable with the identity token."),
    ] = None,
    federation: Annotated[
        list[str] | None,
        typer.Option("--federation", metavar="KEY=VALUE", help="A parameter of the exchange; may be repeated."),
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Check it with the provider first, free of charge.")] = False,
    as_json: JSON = False,
) -> None:
    """Store an API key, a setup token, an OAuth login or a workload's identity under a name.

    The secret is read from stdin, or from a prompt that doesn't show it. An OAuth login is one JSON object with
    access_token, refresh_token and expires_at (in seconds).
    """
    check_account_name(name)
    with account_json(name, wanted=as_json):
        broker = open_broker()
        if profile is not None and store != "anthropic-profile":
            raise UsageError("--profile needs --store anthropic-profile")
        given = Federal(identity_token_file, identity_token_variable, tuple(federation or ()))
        if verify and (store is not None or given != Federal() or workload_identity):
            raise UsageError("--verify checks a key or login from stdin; leave it out for an attached one")
        if workload_identity or given != Federal():
            if kind is not None or store is not None or not workload_identity:
                raise UsageError("a workload's identity needs --workload-identity, and excludes --kind and --store")
            _federate(broker, name, provider, given, replace=replace)
            return
        if store is not None:
            if kind is not None or replace:
                raise UsageError("--store attaches a login as it is; leave out --kind and --replace")
            if store == "anthropic-profile":
                attach(broker, account_of_profile(broker, name, provider, profile))
                return
            attach_claude_code(broker, name, provider)
            return
        _add(broker, name, provider, kind, replace=replace, verify=verify)


def _add(broker: Broker, name: str, provider: str | None, kind: Kind | None, *, replace: bool, verify: bool) -> None:
    provider = provider or (_present_provider(broker, name) if replace else None)
    if provider is not None:
        known_provider(broker, provider)
    raw = read_secret("key or token")
    if provider is None:
        provider = _deduced(broker, raw)
    known = known_provider(broker, provider)
    given = read_credential(raw, kind, known.kind)
    know(given)
    _check_free(broker, name, replace=replace)
    credential = broker.exchanged(known, given)
    know(credential)
    account = Account(name, provider, credential.kind, created_at=int(time.time()))
    verified = _verified(broker, account, credential, replacing=replace) if verify else None
    has_replaced = broker.add(account, credential, replacing=replace)
    note_account("account.replace" if has_replaced else "account.add", account, credential)
    verb = "replaced" if has_replaced else "stored"
    say(f"{verb} account {name} ({provider}, {credential.kind}, fingerprint {credential.secret.fingerprint})")
    if verified is not None:
        note(verified.reason if verified.result == "accepted" else f"it was not checked: {verified.reason}")
    if warning := known.key_warning(name, credential):
        note(warning)
    if unread := unread_expiry(credential):
        note(f'when it expires is unknown, for "{unread}" is not a field that is read; "expires_at" is, in seconds')
    tell_policy(broker, account, credential)
    say(what_serves(name, broker))


def _verified(broker: Broker, account: Account, credential: Credential, *, replacing: bool) -> Verification:
    """The provider's answer on the credential. Raises `PolicyRefused`, and `NeedsLogin` if the provider rejects it."""
    _check_free(broker, account.name, replace=replacing)
    found = broker.verify(account, credential)
    if found.result == "refused":
        raise NeedsLogin(f"{found.reason}, so nothing was stored; copy it again, or get another one there")
    return found


def _check_free(broker: Broker, name: str, *, replace: bool) -> None:
    """Raise `UsageError` for a name that is taken, before a provider is asked."""
    if not replace and name in broker.book.store.names():
        raise UsageError(f"account {name!r} exists already; give --replace to replace it")


def _federate(broker: Broker, name: str, provider: str | None, given: Federal, *, replace: bool) -> None:
    known = known_provider(broker, provider or (_present_provider(broker, name) if replace else None) or "anthropic")
    _check_free(broker, name, replace=replace)
    token = broker.federate(known, federation_of(known, given))
    know(token)
    account = Account(name, known.name, token.kind, created_at=int(time.time()))
    has_replaced = broker.add(account, token, replacing=replace)
    note_account("account.replace" if has_replaced else "account.add", account, token)
    say(
        f"{'replaced' if has_replaced else 'stored'} account {name} ({known.name}, {token.kind}, fingerprint "
        f"{token.secret.fingerprint}), renewed by the identity token in {token.federation.source}"
    )
    say(what_serves(name, broker))


def _present_provider(broker: Broker, name: str) -> str | None:
    return broker.book.read(name).account.provider if name in broker.book.store.names() else None


def _deduced(broker: Broker, raw: bytes) -> str:
    if raw.strip().startswith(API_KEY_PREFIX.encode("ascii")):
        return "anthropic"
    raise UsageError(f"name its provider with --provider, one of: {', '.join(broker.providers)}")


@app.command(
    "list",
    epilog=examples(
        "tokenferry account list",
        "tokenferry account list --json | jq -r '.[] | select(.state == \"needs-login\") | .name'",
    ),
)
def list_(*, wide: WIDE = False, as_json: JSON = False) -> None:
    """List the accounts in order, with their states.

    A star marks the account that `tokenferry use` prefers.
    """
    found = rows(open_broker())
    if as_json:
        say_json([one.to_json() for one in found])
    elif found:
        table(COLUMNS, [cells(one) for one in found], wide=wide)
    else:
        note("there is no account yet; add one with: tokenferry account add NAME --provider anthropic")


@app.command(
    "show",
    epilog=examples(
        "tokenferry account show work",
    ),
)
def show(name: AccountName, *, as_json: JSON = False) -> None:
    """Show everything about an account except its secrets."""
    if as_json:
        say_account(name)
        return
    home, config = find()
    broker = open_broker(home, config)
    limits = "; ".join(limits_of(config, broker.book.read(name).account)) or "none"
    labelled((*account_details(row(broker, name), broker), ("limits", limits)), 13)


@app.command(
    "check",
    epilog=examples(
        "tokenferry account check work",
        "tokenferry account check work --json | jq -r .result",
    ),
)
def check(name: AccountName, *, as_json: JSON = False) -> None:
    """Ask the provider, free of charge, whether it accepts the account's credential.

    This never refreshes a token. Results and exit codes: accepted (0), refused (5), unreachable (6), unclear (1), or
    no-route (0): the provider declares no free route.
    """
    from tokenferry.cli._actions import acting, verify_account  # noqa: PLC0415  # lists don't need it

    with acting() as context:
        provider = context.broker.book.read(name).account.provider
        found = verify_account(context, name)
    if as_json:
        say_json({"name": name, "provider": provider, "result": found.result, "reason": found.reason})
    else:
        say(f"account {name}: {found.reason}{_CURES.get(found.result, '').format(name=name)}")
    if code := _CHECK_CODES.get(found.result):
        raise typer.Exit(code)


@app.command(
    "set",
    epilog=examples(
        "tokenferry account set work --priority 10",
        "tokenferry account set work --label team=build --label room-",
        "tokenferry account set work --max-age 90d",
        "tokenferry account set work --max-age none",
    ),
)
def set_(
    name: AccountName,
    *,
    priority: Annotated[
        int | None, typer.Option("--priority", metavar="N", help="The account's place in the order; lower comes first.")
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="K=V|K-", help="Set or remove a label; may be repeated."),
    ] = None,
    max_age: Annotated[
        str | None,
        typer.Option("--max-age", metavar="SPAN", help="The maximum age of the key: 90d, 12w, 36h, or none."),
    ] = None,
    as_json: JSON = False,
) -> None:
    """Change an account's priority, labels, or the maximum age of its API key or setup token.

    Running gateways follow within a second. Warnings appear before a key reaches its maximum age. After that it is
    refused until "tokenferry account add NAME --replace" stores a new one. The age counts from the key's creation if
    its document names that, else from the day it was stored.
    """
    if priority is None and not labels and max_age is None:
        raise UsageError("no setting was given; see: tokenferry account set --help")
    from tokenferry.cli._actions import (  # noqa: PLC0415  # lists don't need it
        OPERATOR,
        AccountChange,
        acting,
        change_account,
    )

    seconds = None if max_age is None else parse_max_age(max_age)
    wanted = dict(map(label_change, labels or []))
    limit = UNSET if max_age is None else seconds
    with account_json(name, wanted=as_json), acting() as context:
        change_account(context, OPERATOR, name, AccountChange(priority=priority, labels=wanted, max_age=limit))
        account = context.broker.book.read(name).account
        if max_age is not None:
            age = "any age" if seconds is None else f"at most {format_duration(seconds)}"
            say(f"account {name} may hold a credential of {age}")
        if priority is not None or wanted:
            shown = ",".join(f"{label}={value}" for label, value in account.labels.items()) or "-"
            say(f"account {name} has priority {account.priority} and labels {shown}")
        if priority is not None:
            _note_override(context.broker, account)


@app.command(
    "pause",
    epilog=examples(
        "tokenferry account pause work",
        "tokenferry account pause work --for 8h",
        "tokenferry account pause work --until tomorrow          8:00 in the morning",
        'tokenferry account pause work --until "2026-12-24 18:00"',
    ),
)
def pause(
    name: AccountName,
    *,
    until: Annotated[
        str | None,
        typer.Option(
            "--until", metavar="TIME", help="When the pause ends: 18:30, tomorrow 9:30, 2026-12-24 or RFC 3339."
        ),
    ] = None,
    for_: Annotated[
        str | None, typer.Option("--for", metavar="SPAN", help="How long the pause lasts: 90m, 8h, 3d.")
    ] = None,
    as_json: JSON = False,
) -> None:
    """Pause an account: within a second no gateway uses it, until the pause ends or you resume it.

    Its login is still refreshed, and "tokenferry token NAME" prints its token.
    """
    if until is not None and for_ is not None:
        raise UsageError("--until and --for exclude each other; give one of them")
    now, end = time.time(), None
    if until is not None:
        end = later_moment(until, now, zone_of(None))
    elif for_ is not None:
        end = moment_after(for_, now)
    _set_paused(name, paused=True, until=end, as_json=as_json)


@app.command(
    "resume",
    epilog=examples(
        "tokenferry account resume work",
    ),
)
def resume(name: AccountName, *, as_json: JSON = False) -> None:
    """Resume a paused account; running gateways use it within a second."""
    _set_paused(name, paused=False, as_json=as_json)


def _note_override(broker: Broker, account: Account) -> bool:
    """Note it if config.toml overrides the stored value; return whether it does."""
    effective = broker.book.effective(account)
    for key in ("priority", "paused"):
        if getattr(effective, key) != getattr(account, key):
            note(
                f"it is stored, but [accounts.{account.name}] in config.toml overrides it with {key} = "
                f"{str(getattr(effective, key)).lower()}; remove that with: tokenferry config unset "
                f"accounts.{account.name}.{key}"
            )
            return True
    return False


def _set_paused(name: str, *, paused: bool, until: datetime | None = None, as_json: bool) -> None:
    from tokenferry.cli._actions import (  # noqa: PLC0415  # lists don't need it
        OPERATOR,
        AccountChange,
        acting,
        change_account,
    )

    with account_json(name, wanted=as_json), acting() as context:
        change_account(context, OPERATOR, name, AccountChange(paused=paused, paused_until=until))
        account = context.broker.book.read(name).account
        if _note_override(context.broker, account):
            return
        if paused:
            end = "" if account.paused_until is None else f" until {moment(account.paused_until)}"
            say(f"account {name} is paused{end}; resume it with: tokenferry account resume {name}")
        else:
            say(f"account {name} is resumed")


@app.command(
    "remove",
    epilog=examples(
        "tokenferry account remove work",
        "tokenferry account remove work --yes",
        "tokenferry account remove work --keep-remote",
    ),
)
def remove(
    name: AccountName,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    keep_remote: Annotated[bool, typer.Option("--keep-remote", help="Don't revoke the login at the provider.")] = False,
    as_json: JSON = False,
) -> None:
    """Remove an account, even if its document can't be read.

    A login that tokenferry owns is revoked at its provider first, if possible.
    """
    broker = open_broker()
    if name not in broker.book.store.names():
        broker.book.remove(name)  # raises the reason
    store = broker.book.store
    is_attached = isinstance(store, Attaching) and store.is_attached(name)
    meaning = "Its login stays where it is." if is_attached else "Its credential will be deleted."
    if not yes and not confirmed(f"remove account {name}? {meaning}", flag="--yes"):
        note("nothing was removed")
        raise typer.Exit(1)
    from tokenferry.cli._actions import OPERATOR, acting, remove_account  # noqa: PLC0415  # lists don't need it

    with outcome_json(wanted=as_json) as document, acting() as context:
        done = remove_account(context, OPERATOR, name, keeps_login=keep_remote)
        tell_revocation(Revocation(done.revoked, done.still_valid or ""))
        say(f"removed account {name}")
        tell_default_provider(done.default_provider)
        if bound := done.unserved_keys:
            note(
                f"no account serves these client keys now: {', '.join(bound)}; let others serve them with: "
                "tokenferry key set NAME --no-pin --any-account; or revoke them"
            )
        document |= {"removed": name, "revoked": done.revoked, "unserved_keys": done.unserved_keys}


@app.command(
    "confirm",
    epilog=examples(
        "tokenferry account confirm work",
    ),
)
def confirm(name: AccountName, *, as_json: JSON = False) -> None:
    """Confirm that only this machine uses a copied login.

    A login that came from another machine, by a backup or a synchronised folder, is not refreshed until you confirm it.
    """
    from tokenferry.cli._actions import OPERATOR, acting, confirm_account  # noqa: PLC0415  # lists don't need it

    with account_json(name, wanted=as_json), acting() as context:
        confirm_account(context, OPERATOR, name)
        say(f"account {name} belongs to this machine now")
