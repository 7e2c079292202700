import contextlib
from collections.abc import Iterable
from typing import Annotated

import typer

from tokenferry.broker import Broker
from tokenferry.cli._complete import OptionalAccountName, account_names
from tokenferry.cli._home import MIN_TTL, find, open_broker, pin_notice, tell_pin
from tokenferry.cli._logs import has_logged
from tokenferry.cli._output import json_lines, note, noted, say_lines
from tokenferry.cli._typer import examples, new_app
from tokenferry.config import Config
from tokenferry.credentials import Credential
from tokenferry.databases import open_state
from tokenferry.errors import TokenferryError, UnknownAccount, UsageError
from tokenferry.integrations import assignments, variables_of, variables_of_gateway
from tokenferry.manifest import Dependencies
from tokenferry.secret import Secret
from tokenferry.settings import Home
from tokenferry.state import local_key, read_local_key, running_gateway
from tokenferry.stores import Account, Document, Sealable, Store

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
    context: typer.Context,
    name: OptionalAccountName = None,
    *,
    account: Annotated[
        str | None, typer.Option("--account", metavar="NAME", help="The same as NAME.", autocompletion=account_names)
    ] = None,
    min_ttl: Annotated[
        int, typer.Option("--min-ttl", metavar="SECONDS", min=0, help="Refresh a token that expires sooner.")
    ] = MIN_TTL,
    gateway: Annotated[bool, typer.Option("--gateway", help="Print the gateway's local client key instead.")] = False,
    env: Annotated[bool, typer.Option("--env", help="Print NAME=value lines, for eval and for env files.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: token, expires_at, header.")] = False,
) -> None:
    """Print a working token or key, and nothing else.

    A token that is due is refreshed first. If that fails and the token is still valid, it is printed with a warning on
    stderr. The gateway's key is printed only while a gateway of this home runs.
    """
    if env and as_json:
        raise UsageError("--env and --json exclude each other; give one of them")
    if name and account and name != account:
        raise UsageError(f"{name!r} and {account!r} exclude each other; name one account")
    if gateway and (name or account):
        raise UsageError("--gateway prints the gateway's own key; leave the account out")
    with Dependencies() as dependencies:
        if gateway:
            key, lines = _gateway_key(env=env, as_json=as_json)
            _remember(context, dependencies, key, say_lines(lines))
            return
        home, config = find(for_credential=True)
        broker = open_broker(home, config)
        name = name or account
        tell_pin(name)
        notes = [pin] if (pin := pin_notice(name)) else []
        meant = _meant(broker, config, name) if env or config.faults else None
        if config.faults and meant is not None:
            about = f"{config.path} has faults that don't concern account {meant.name}"
            notes.append(f"{about}; see them with: tokenferry config check")
            note(notes[-1])
        credential = broker.resolve(name, min_ttl=min_ttl)
        if env and meant is not None:
            lines = assignments(variables_of(broker.provider_of(meant), credential))
        elif as_json:
            lines = _as_json(credential.secret, credential.expires_at, credential.headers()[0])
        else:
            lines = [credential.secret.reveal()]
        stdout = say_lines(lines)
        with contextlib.suppress(TokenferryError):
            document = broker.book.read(broker.book.choose(name))
            if _will_be_handed_out_again(broker, document, credential):
                dependencies.until = min(dependencies.until, broker.settled_until(document, min_ttl=min_ttl))
                sealed = _sealed_in(broker.book.store, document)
                _remember(context, dependencies, credential.secret, stdout, notes=notes, sealed=sealed)


def _meant(broker: Broker, config: Config, name: str | None) -> Account:
    """The requested account. An account that stands in for it is of the same provider.

    Raises `ConfigError` if a fault in config.toml concerns the account, or may be the reason why it is missing.
    """
    try:
        meant = broker.book.read(broker.book.choose(name)).account
    except UnknownAccount:
        config.check()
        raise
    config.check_provider(meant.provider)
    return meant


def _gateway_key(*, env: bool, as_json: bool) -> tuple[Secret, list[str]]:
    home = Home.from_environment()
    running = running_gateway(home)
    key = read_local_key(home)
    if key is None:
        with open_state(home) as state:
            key = local_key(home, state)
    if env:
        return key, assignments(variables_of_gateway(key, running.url, running.socket))
    if as_json:
        return key, _as_json(key, None, ("authorization", f"Bearer {key.reveal()}"))
    return key, [key.reveal()]


def _as_json(secret: Secret, expires_at: int | None, header: tuple[str, str]) -> list[str]:
    """`header` is one line for `curl -H`. Any credential but an API key is a bearer token."""
    name, value = header
    name = "Authorization" if name == "authorization" else name
    return json_lines({"token": secret.reveal(), "expires_at": expires_at, "header": f"{name}: {value}"})


def _will_be_handed_out_again(broker: Broker, document: Document, credential: Credential) -> bool:
    """Whether the account's document alone decides the next answer: no stand-in, grant, subscription or Claude Code."""
    is_its_own = document.credential.secret == credential.secret and document.account.store != "claude-code"
    return (
        is_its_own and not broker.bills_subscription(document.account, credential) and not broker.publisher.has_healed
    )


def _sealed_in(store: Store, document: Document) -> tuple[str, ...]:
    """The files of a sealed document and of its key (empty for a keyring); none for a document in clear."""
    if document.account.store != "file" or not isinstance(store, Sealable):
        return ()
    header = store.header(document.account.name)
    return () if header is None else (store.place(header.account.name), str(store.seal.where(header.key).path or ""))


def _remember(
    context: typer.Context,
    dependencies: Dependencies,
    secret: Secret,
    stdout: str,
    *,
    notes: Iterable[str] = (),
    sealed: tuple[str, ...] = (),
) -> None:
    """Cache the answer for the same arguments, unless something else was printed, or the answer depends on a folder."""
    command, *arguments = context.find_root().obj
    if command == "token" and not has_logged() and not any(one.startswith(("--config", "--home")) for one in arguments):
        stderr = "".join(map(noted, notes))
        dependencies.remember(arguments, stdout, secret.reveal(), stderr=stderr, sealed=sealed)
