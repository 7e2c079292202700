import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer

from tokenferry.accounts import (
    SHARED_TARGETS,
    Limit,
    Surroundings,
    Target,
    exported,
    hand_over,
    pending_hand_over,
    refuse_temporary,
    seal_export,
    take_back,
    write_export,
)
from tokenferry.audit import note_change
from tokenferry.broker import Broker
from tokenferry.cli._complete import AccountName
from tokenferry.cli._home import find, open_broker, tell_default_provider
from tokenferry.cli._input import confirmed
from tokenferry.cli._output import note, say
from tokenferry.cli._typer import examples, new_app
from tokenferry.credentials import Credential
from tokenferry.databases import has_state, open_state
from tokenferry.errors import UsageError
from tokenferry.integrations import variables_of
from tokenferry.interchange import VARIABLES
from tokenferry.settings import Home
from tokenferry.state import Scope
from tokenferry.stores import HiddenBytes, Seal
from tokenferry.units import moment

app = new_app()

_MIN_TTL: Final = 600.0


@app.command(
    "export",
    epilog=examples(
        "tokenferry export work --to env .env",
        "tokenferry export work --to bundle login.json             the access token alone",
        "tokenferry export work --to bundle login.json --with-refresh-token    hand the login over",
        "tokenferry export work --to pool                          into Claude Code's pool file",
        "tokenferry export work --to key-file - | ssh host 'umask 077; cat > key'",
        "tokenferry export work --to bundle backup.json --sealed       only this home's key opens it",
    ),
)
def export(
    name: AccountName,
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE", help="The file to write; - for stdout. pool and ccm have default files.", show_default=False
        ),
    ] = None,
    *,
    to: Annotated[
        Target | None,
        typer.Option("--to", metavar="FORMAT", help="bundle, claude-code, pool, profile, ccm, env or key-file."),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            "--key", metavar="KEY", help="The account's key in pool (an e-mail address) or ccm (a provider id)."
        ),
    ] = None,
    with_chain: Annotated[
        bool, typer.Option("--with-refresh-token", help="Hand the login over for good, and remove the account here.")
    ] = False,
    take_back_: Annotated[bool, typer.Option("--take-back", help="Undo an interrupted hand-over.")] = False,
    sealed: Annotated[
        bool, typer.Option("--sealed", help="Encrypt it with this home's key; `tokenferry import` opens it.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Write to stdout even if it is a terminal.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
) -> None:
    """Write an account's credential in a format that other programs read.

    The file gets only the access token, which works until it expires. The refresh token stays here, because two
    programs that use it log each other out. Files are never overwritten; those of pool and ccm are updated with the
    account.
    """
    home, settings = find()
    broker = open_broker(home, settings)
    if take_back_:
        _take_back(broker, home, name, yes=yes)
        return
    if to is None:
        raise UsageError("name a format with --to: bundle, claude-code, pool, profile, ccm, env or key-file")
    if sealed and with_chain:
        raise UsageError("--sealed and --with-refresh-token exclude each other: the other program must read the file")
    path = _path(home, to, file)
    document = broker.book.read(name)
    begun = pending_hand_over(document) if with_chain else None
    if begun is None:
        credential = broker.resolve(name, min_ttl=_MIN_TTL)
    elif not begun.has_arrived():
        broker.check_policy(document)
    if with_chain:
        _hand_over(broker, home, name, to=to, path=path, key=key, is_begun=begun is not None, yes=yes)
        return
    if to == "env":
        (variable, _), *_ = variables_of(broker.provider_of(document.account), credential)
        key = None if variable in VARIABLES else variable  # another vendor's key never goes to Anthropic
    wrap = partial(seal_export, target=to, name=name, seal=Seal.of(home)) if sealed else _as_it_is
    if path is None:
        _to_stdout(home, name, to, credential, key=key, force=force, wrap=wrap)
        return
    if sealed and to in SHARED_TARGETS:
        wrap(HiddenBytes())  # raises the reason
    limit = _limit(home, name) if to == "pool" else None
    write_export(path, to, credential, key=key, with_chain=False, locks=home.locks, limit=limit, wrap=wrap)
    note_change(home, "account.export", name, target=to, fingerprint=credential.secret.fingerprint)
    lives = "" if credential.expires_at is None else f", which expires at {moment(credential.expires_at)}"
    say(f"exported account {name} to {path} ({to}, fingerprint {credential.secret.fingerprint}{lives})")


def _path(home: Home, to: Target, file: str | None) -> Path | None:
    """The path to write; None for stdout."""
    if file == "-":
        return None
    if file is not None:
        return Path(file).absolute()
    around = Surroundings(os.environ, Path.home(), home.locks)
    if to in SHARED_TARGETS:
        return around.pool if to == "pool" else around.ccm_tokens
    hints = {
        "claude-code": "; to make it Claude Code's login here, run: tokenferry claude-code switch NAME",
        "profile": "; to make it a profile that stays fresh, run: tokenferry profile publish NAME",
    }
    raise UsageError(f"name the file to write, or - for stdout{hints.get(to, '')}")


def _limit(home: Home, name: str) -> Limit | None:
    """The account's known limits; None if none was ever recorded here."""
    if not has_state(home):
        return None
    with open_state(home) as state:
        marks = [one for one in state.cooldowns.list() if one.scope == Scope("account", name)]
    left = [one.until for one in marks if not one.is_over(time.time())]
    return Limit(bool(left), max((until for until in left if until is not None), default=None))


def _as_it_is(content: HiddenBytes) -> HiddenBytes:
    return content


def _to_stdout(
    home: Home,
    name: str,
    to: Target,
    credential: Credential,
    *,
    key: str | None,
    force: bool,
    wrap: Callable[[HiddenBytes], HiddenBytes],
) -> None:
    if sys.stdout.isatty() and not force:
        raise UsageError("stdout is a terminal, which would show the secret; name a file, or give --force")
    sys.stdout.write(wrap(HiddenBytes(exported(to, credential, key=key))).decode("ascii"))
    sys.stdout.flush()
    note_change(home, "account.export", name, target=to, fingerprint=credential.secret.fingerprint)


def _hand_over(
    broker: Broker,
    home: Home,
    name: str,
    *,
    to: Target,
    path: Path | None,
    key: str | None,
    is_begun: bool,
    yes: bool,
) -> None:
    if path is None:
        raise UsageError("name a file: the login must be on disk before it is removed here")
    refuse_temporary(path)
    question = (
        f"hand the login of account {name} over to {path}? The program that reads that file refreshes it from then on, "
        "and the account is removed here."
    )
    if not is_begun and not yes and not confirmed(question, flag="--yes"):
        note("nothing was handed over")
        raise typer.Exit(1)
    hand_over(
        broker.book,
        broker.journal,
        name,
        target=to,
        path=path,
        key=key,
        locks=home.locks,
        machine=broker.machine,
        now=time.time(),
        limit=_limit(home, name) if to == "pool" else None,
    )
    default = broker.remove(name)
    note_change(home, "account.hand-over", name, target=to, default_provider=default)
    say(f"handed the login of account {name} over to {path} ({to}); the account was removed here")
    tell_default_provider(default)


def _take_back(broker: Broker, home: Home, name: str, *, yes: bool) -> None:
    begun = pending_hand_over(broker.book.read(name))
    if begun is not None and not yes:
        question = (
            f"take the login of account {name} back? If another program uses a copy of {begun.path}, one of both is "
            "logged out."
        )
        if not confirmed(question, flag="--yes"):
            note("nothing was taken back")
            raise typer.Exit(1)
    take_back(broker.book, name)
    note_change(home, "account.take-back", name)
    say(f"the login of account {name} is tokenferry's again")
