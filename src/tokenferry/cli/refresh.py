from typing import Annotated

import typer

from tokenferry.cli._complete import OptionalAccountName
from tokenferry.cli._home import know, open_broker
from tokenferry.cli._output import say, say_json
from tokenferry.cli._typer import examples, new_app
from tokenferry.errors import UsageError
from tokenferry.units import moment

app = new_app()


@app.command(
    "refresh",
    epilog=examples(
        "tokenferry refresh work",
        "tokenferry refresh --due                           for cron, every 5 minutes",
        "tokenferry refresh --watch                         until a signal ends it",
        "tokenferry refresh --watch --switch-claude-code    also switch Claude Code's account when it is limited",
        "tokenferry refresh --watch --json | jq -r .text",
        "tokenferry service install                         run it as a service",
    ),
)
def refresh(
    name: OptionalAccountName = None,
    *,
    due: Annotated[bool, typer.Option("--due", help="Refresh what is due now, and exit.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh what is due, until a signal ends it.")] = False,
    switch_claude_code: Annotated[
        bool,
        typer.Option("--switch-claude-code", help="Give Claude Code the next account when its present one is limited."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; with --watch one object per line.")] = False,
) -> int:
    """Refresh an account's token now, or every login when it is due.

    --due and --watch refresh a published account 10 minutes before its token expires, and an idle login before its
    refresh token lapses. They also rewrite outdated profiles. Only one renewer runs per home, including `tokenferry
    serve`; others wait. TERM and HUP end it with exit code 0, after a refresh in flight. --switch-claude-code needs the
    policy own-use.
    """
    if due and watch:
        raise UsageError("--due and --watch exclude each other; give one of them")
    if due or watch:
        if name is not None:
            raise UsageError(f"--due and --watch refresh every account; leave {name[:80]!r} out")
        from tokenferry.cli import _watch  # noqa: PLC0415  # one account needs no renewer

        run = _watch.refresh_due if due else _watch.watch
        return run(as_json=as_json, switches=switch_claude_code)
    if switch_claude_code:
        raise UsageError(
            "--switch-claude-code needs --due or --watch; to switch now run: tokenferry claude-code switch --next"
        )
    _refresh(name, as_json=as_json)
    return 0


def _refresh(name: str | None, *, as_json: bool) -> None:
    broker = open_broker()
    name = broker.book.choose(name)
    if broker.book.read(name).account.kind in {"api-key", "setup-token"}:
        raise UsageError(
            f"account {name!r} holds an API key or setup token, which is never refreshed; check it with: "
            f"tokenferry account check {name}"
        )
    credential = broker.renew(name).credential
    know(credential)
    fingerprint, expires_at = credential.secret.fingerprint, credential.expires_at
    if as_json:
        say_json({"name": name, "fingerprint": fingerprint, "expires_at": expires_at})
    else:
        say(f"{name}  {fingerprint}  expires {moment(expires_at)}")
