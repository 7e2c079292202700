from typing import Annotated

import typer

from tokenferry.cli._complete import OptionalAccountName, account_names
from tokenferry.cli._fast import MIN_TTL
from tokenferry.cli._home import find, open_broker, tell_pin
from tokenferry.cli._output import note, say, say_json, say_lines
from tokenferry.cli._typer import examples, new_app
from tokenferry.errors import UnknownAccount, UsageError
from tokenferry.integrations import assignments, variables_of, variables_of_gateway
from tokenferry.secret import Secret
from tokenferry.settings import Home
from tokenferry.state import local_key, read_local_key, running_gateway

app = new_app()


@app.command(
    "token",
    epilog=examples(
        "tokenferry token",
        "tokenferry token work --min-ttl 1800",
        r"""printf 'x-api-key: %s\n' "$(tokenferry token work)" | curl -H @- ...""",
        "tokenferry token --gateway                      for Claude Code's apiKeyHelper",
        'set -a; eval "$(tokenferry token work --env)"; set +a',
        "tokenferry token work --json | jq -r .header",
    ),
)
def token(
    name: OptionalAccountName = None,
    *,
    account: Annotated[
        str | None, typer.Option("--account", metavar="NAME", help="The same.", autocompletion=account_names)
    ] = None,
    min_ttl: Annotated[
        int, typer.Option("--min-ttl", metavar="SECONDS", min=0, help="How long it should live at least.")
    ] = MIN_TTL,
    gateway: Annotated[bool, typer.Option("--gateway", help="Print the gateway's local client key instead.")] = False,
    env: Annotated[bool, typer.Option("--env", help="Print NAME=value lines, for eval and for env files.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON: token, expires_at, header.")] = False,
) -> None:
    """Print a token or key that works now, and nothing else.

    It is renewed first where that is due; if that fails but it still lives, it is printed with a warning on stderr.
    The gateway's key is printed only while a gateway of this home runs.
    """
    if env and as_json:
        raise UsageError("--env and --json are two forms of the same; give one of them")
    if name and account and name != account:
        raise UsageError(f"{name!r} and {account!r} are both named; name one account")
    if gateway:
        if name or account:
            raise UsageError("--gateway prints the gateway's own key, whatever the account; leave the account out")
        _say_gateway_key(env=env, as_json=as_json)
        return
    home, config = find(for_credential=True)
    broker = open_broker(home, config)
    name = name or account
    tell_pin(name)
    if env or config.faults:
        # That of the account that is meant: whichever stands in for it is of the same provider.
        try:
            of = broker.book.read(broker.book.choose(name)).account
        except UnknownAccount:
            config.check()  # an account may be missing because of a fault
            raise
        config.check_provider(of.provider)
    if config.faults:
        note(f"{config.path} has faults that don't concern account {of.name}; see them with: tokenferry config check")
    credential = broker.resolve(name, min_ttl=min_ttl)
    if env:
        provider = broker.provider_of(of)
        say_lines(assignments(variables_of(provider, credential)))
    elif as_json:
        _say_json(credential.secret, credential.expires_at, credential.headers()[0])
    else:
        say(credential.secret.reveal())


def _say_gateway_key(*, env: bool, as_json: bool) -> None:
    home = Home.from_environment()
    running = running_gateway(home)
    key = read_local_key(home) or local_key(home)
    if env:
        say_lines(assignments(variables_of_gateway(key, running.url, running.socket)))
    elif as_json:
        _say_json(key, None, ("authorization", f"Bearer {key.reveal()}"))
    else:
        say(key.reveal())


def _say_json(secret: Secret, expires_at: int | None, header: tuple[str, str]) -> None:
    """`header` is one line for `curl -H`; only an API key may be something else than a bearer token."""
    name, value = header
    name = "Authorization" if name == "authorization" else name
    say_json({"token": secret.reveal(), "expires_at": expires_at, "header": f"{name}: {value}"})
