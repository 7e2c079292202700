import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

import typer
from msgspec import structs

from tokenferry.accounts import (
    Offer,
    Surroundings,
    attachable,
    check_again,
    look_around,
    look_into,
    look_through,
    make_offers,
    open_export,
)
from tokenferry.audit import note_change
from tokenferry.broker import Broker
from tokenferry.cli._complete import provider_names
from tokenferry.cli._home import find, know, open_broker, what_serves
from tokenferry.cli._input import answer, read_secret
from tokenferry.cli._output import note, say, say_json
from tokenferry.cli._profile import account_of_profile
from tokenferry.cli._table import Column, table, time_cell
from tokenferry.cli._typer import JSON, examples, new_app
from tokenferry.credentials import Credential, OAuthToken
from tokenferry.databases import open_state
from tokenferry.errors import TokenferryError, UnsafeFile, UsageError
from tokenferry.interchange import Format
from tokenferry.settings import Home
from tokenferry.state import Cooldown, Scope
from tokenferry.stores import FileLock, HiddenBytes, Seal, read_private_file
from tokenferry.units import moment

Look: TypeAlias = Callable[[], list[Offer]]
Result: TypeAlias = Literal["imported", "skipped", "failed"]

app = new_app()

_COLUMNS: Final = (
    Column("account"),
    Column("provider"),
    Column("kind"),
    Column("fingerprint", wide=True),
    Column("email", wide=True),
    Column("plan", wide=True),
    Column("expires", wide=True),
    Column("source", wide=True),
    Column("where", wide=True),
    Column("means", folds=True),
)
_LOCK_WAIT: Final = 60.0


@app.command(
    "import",
    epilog=examples(
        "tokenferry import                            ask about each credential found",
        "tokenferry import --dry-run                  show what would be imported",
        "tokenferry import --yes                      everything except logins to take over",
        "tokenferry import login.json --name work     one file, whatever its format",
        "pass show anthropic | tokenferry import - --name work",
    ),
)
def import_(
    path: Annotated[
        str | None, typer.Argument(metavar="PATH", help="A file, or - for stdin.", show_default=False)
    ] = None,
    *,
    form: Annotated[
        Format | None, typer.Option("--format", metavar="FORMAT", help="The file's format; recognised by default.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="The account's name.")] = None,
    provider: Annotated[
        str | None, typer.Option("--provider", metavar="NAME", help="The provider.", autocompletion=provider_names)
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask, except about logins to take over.")] = False,
    take_over: Annotated[
        bool,
        typer.Option("--take-over", help="Take over logins without asking; no other program may use them afterwards."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be imported, and change nothing.")
    ] = False,
    as_json: JSON = False,
) -> None:
    """Import credentials of other programs on this machine, or from a file.

    Looks at Claude Code's login, the variables ANTHROPIC_API_KEY, ANTHROPIC_AUTH_TOKEN and CLAUDE_CODE_OAUTH_TOKEN, the
    profiles of the official SDKs, Claude Code's pool file, and claude-code-mux. A login is never copied: it is attached
    in place, or taken over for good.
    """
    if path is None and (form or name or provider):
        raise UsageError("--format, --name and --provider need a PATH, or - for stdin")
    home, settings = find()
    broker = open_broker(home, settings)
    look = _look(broker, home, path, form=form, name=name, provider=provider)
    offers = look()
    if not as_json:
        _show(offers)
    results: dict[int, Result] = {}
    if not offers:
        note("no credential of another program was found; name a file, or see: tokenferry account add --help")
    elif not dry_run:
        allowed = _Allowed(yes=yes or path is not None, take_over=take_over, may_ask=path != "-" and not as_json)
        for place, offer in enumerate(offers):
            if offer.action != "none":
                results[place] = import_one(broker, home, offer, look) if allowed(offer) else "skipped"
        report(broker, offers, results, say_done=note if as_json else say)
    if as_json:
        say_json([offer.to_json() | {"result": results.get(place)} for place, offer in enumerate(offers)])
    is_in_vain = path is not None and not dry_run and "imported" not in results.values()
    if "failed" in results.values() or is_in_vain:
        raise typer.Exit(1)


def _look(
    broker: Broker, home: Home, path: str | None, *, form: Format | None, name: str | None, provider: str | None
) -> Look:
    """A function that looks at the requested place at each call."""
    around = Surroundings(os.environ, Path.home(), home.locks, os.environ.get("USER", ""))
    piped = HiddenBytes(read_secret("credential")) if path == "-" else None
    where = "stdin" if path in {None, "-"} else str(Path(str(path)).absolute())
    if (opened := _opened(home, piped, path, where)) is not None:
        piped, form = opened

    def look() -> list[Offer]:
        if path is None:
            found = list(look_around(around))
        elif piped is not None:
            found = look_through(piped, form, around, where)
        else:
            found = look_into(Path(path).absolute(), form, around)
        beside = [] if path is None else [one for one in attachable(around) if one not in found]
        return make_offers(
            found, broker.book, broker.providers, time.time(), name=name, provider=provider, attached=beside
        )

    return look


def _opened(home: Home, piped: HiddenBytes | None, path: str | None, where: str) -> tuple[HiddenBytes, Format] | None:
    """The content and format of a sealed export; None for any other file, or a missing one."""
    if path is None:
        return None
    try:
        raw = HiddenBytes(read_private_file(Path(path).absolute())) if piped is None else piped
        return open_export(raw, Seal.of(home), where)
    except (FileNotFoundError, UnsafeFile):
        return None  # its reader raises it


class _Allowed:
    """Decides what to import: by the options, else by the answers in a terminal."""

    def __init__(self, *, yes: bool, take_over: bool, may_ask: bool) -> None:
        self._yes = yes
        self._take_over = take_over
        self._may_ask = may_ask and sys.stdin is not None and sys.stdin.isatty()

    def __call__(self, offer: Offer) -> bool:
        if self._take_over if offer.action == "take-over" else self._yes:
            return True
        if not self._may_ask:
            return False
        assert offer.account is not None
        said = answer(f"import {offer.account.name} from {tilde(offer.where)}? It is {offer.note}. [y/N/all] ")
        if said == "all":
            self._yes = self._take_over = True
        return said in {"y", "yes", "all"}


def import_one(broker: Broker, home: Home, offer: Offer, look: Look) -> Result:
    """Import an offer if a second look finds it unchanged."""
    try:
        with FileLock(home.accounts, home.locks).held(_LOCK_WAIT):  # of two imports at once, each would find it absent
            _take(broker, home, check_again(offer, look()))
    except TokenferryError as fault:
        note(f"{tilde(offer.where)}: {fault}")
        return "failed"
    return "imported"


def _take(broker: Broker, home: Home, offer: Offer) -> None:
    account, credential = offer.account, offer.credential
    assert account is not None
    assert credential is not None
    know(credential)
    if offer.action != "attach":
        broker.add(account, _imported(credential), origin=offer.origin)
    elif offer.source == "profile":
        broker.attach(account_of_profile(broker, account.name, account.provider, offer.key))
    else:
        broker.attach(account)
    if offer.is_limited:
        mark = Cooldown(
            Scope("account", account.name), "rate-limited", "import", offer.limited_until, "the pool said so"
        )
        with open_state(home) as state:
            state.cooldowns.put(mark)
    fingerprint = credential.secret.fingerprint
    note_change(home, "account.import", account.name, source=offer.source, fingerprint=fingerprint)


def _imported(credential: Credential) -> Credential:
    """The credential, marked as imported if its source is unknown or a refresh, which did not happen in this home."""
    if isinstance(credential, OAuthToken) and credential.source in {None, "refresh"}:
        return structs.replace(credential, source="imported")
    return credential


def _show(offers: list[Offer]) -> None:
    if offers:
        table(_COLUMNS, [_cells(offer) for offer in offers])


def _cells(offer: Offer) -> tuple[str, ...]:
    account, credential = offer.account, offer.credential
    token = credential if isinstance(credential, OAuthToken) else None
    return (
        account.name if account else "-",
        account.provider if account else "-",
        credential.kind if credential else "-",
        credential.secret.fingerprint if credential else "-",
        (token and token.email) or "-",
        (token and token.subscription_type) or "-",
        time_cell(credential.expires_at, time.time()) if credential else "-",
        offer.source,
        tilde(offer.where),
        _means(offer),
    )


def _means(offer: Offer) -> str:
    key = f"{offer.key}: " if offer.key and not offer.account else ""
    until = "" if offer.limited_until is None else f" until {moment(offer.limited_until)}"
    return f"{key}{tilde(offer.note)}" + (f"; limited{until}" if offer.is_limited else "")


def report(broker: Broker, offers: list[Offer], results: dict[int, Result], *, say_done: Callable[[str], None]) -> None:
    """Print what was imported, and what was not and why."""
    taken = [offers[place] for place, result in results.items() if result == "imported"]
    for offer in taken:
        assert offer.account is not None
        assert offer.credential is not None
        verb = "attached" if offer.action == "attach" else "imported"
        say_done(f"{verb} account {offer.account.name} (fingerprint {offer.credential.secret.fingerprint})")
        say_done(f"account {offer.account.name} {what_serves(offer.account.name, broker)}")
    skipped = [offers[place] for place, result in results.items() if result == "skipped"]
    if skipped:
        left = [offer for offer in skipped if offer.action == "take-over"]
        flags = [*(["--yes"] if len(left) < len(skipped) else []), *(["--take-over"] if left else [])]
        note(f"not imported: {len(skipped)}; run this in a terminal to decide on each, or give {' and '.join(flags)}")
    elif not results:
        note("there is nothing to import")
    if broker.policy.subscriptions == "claude-code-only" and any(map(_bills(broker), taken)):
        note(
            "accounts billed to a Claude subscription serve Claude Code alone until config.toml "
            'says subscriptions = "own-use" under [policy]'
        )


def _bills(broker: Broker) -> Callable[[Offer], bool]:
    def bills(offer: Offer) -> bool:
        assert offer.account is not None
        assert offer.credential is not None
        return broker.bills_subscription(offer.account, offer.credential)

    return bills


def tilde(text: str) -> str:
    """The text for people: home directories at the start of paths become ~."""
    return re.sub(rf"(?<!\S){re.escape(str(Path.home()))}(?={re.escape(os.sep)})", "~", text)
