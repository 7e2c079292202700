import os
import time
from collections.abc import Iterator
from typing import Annotated, Any, Final

import typer

from tokenferry.accounts import Publication
from tokenferry.broker import Broker, Published
from tokenferry.cli._complete import OptionalAccountName
from tokenferry.cli._home import find, open_broker
from tokenferry.cli._output import note, outcome_json, say, say_json
from tokenferry.cli._probe import gateway_url
from tokenferry.cli._table import Column, table, time_cell
from tokenferry.cli._typer import JSON, WIDE, examples, new_app
from tokenferry.config import Config
from tokenferry.databases import open_state
from tokenferry.errors import TokenferryError, TryLater, UsageError
from tokenferry.settings import Home
from tokenferry.state import gateway_records, local_key
from tokenferry.units import span

app = new_app(
    "Publish accounts as profiles of the official SDKs.",
    "tokenferry profile publish work",
    "tokenferry profile list",
)

_SHADOWS: Final = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")
_COLUMNS: Final = (
    Column("profile"),
    Column("active"),
    Column("source"),
    Column("fingerprint", wide=True),
    Column("expires"),
    Column("state", folds=True),
)


@app.command(
    "publish",
    epilog=examples(
        "tokenferry profile publish work",
        "tokenferry profile publish work --profile default",
        "tokenferry profile publish work --activate",
        "tokenferry profile publish --gateway                send programs through the gateway",
    ),
)
def publish(
    name: OptionalAccountName = None,
    *,
    profile: Annotated[
        str | None, typer.Option("--profile", metavar="NAME", help="The profile's name; by default the account's.")
    ] = None,
    activate: Annotated[
        bool, typer.Option("--activate", help="Make it the profile that programs use by default.")
    ] = False,
    gateway: Annotated[
        bool, typer.Option("--gateway", help="Publish the gateway, with its local client key, instead of an account.")
    ] = False,
    as_json: JSON = False,
) -> None:
    """Publish an account as a profile that every official SDK reads; programs need no change.

    The profile holds only the access token. Every refresh by tokenferry rewrites it; the SDKs never refresh it. A
    profile that tokenferry didn't write is left alone. $ANTHROPIC_CONFIG_DIR names the folder.
    """
    if gateway and name:
        raise UsageError(f"--gateway publishes no account; leave {name!r} out")
    home, settings = find()
    broker = open_broker(home, settings)
    if gateway:
        new = _publish_gateway(broker, home, settings, profile, activate=activate)
    else:
        new = broker.publish(name, profile, activate=activate)
    found = next(one for one in broker.publisher.published() if one.publication.config == new.config)
    if as_json:
        say_json(_to_json(found))
        return
    expiry = f", expires in {span(found.expires_at - time.time())}" if found.expires_at else ""
    say(f"published {new.source} as profile {new.profile} (fingerprint {found.fingerprint}{expiry})")
    for line in _usage(new):
        note(line)


@app.command("list", epilog=examples("tokenferry profile list", "tokenferry profile list --json"))
def list_(*, wide: WIDE = False, as_json: JSON = False) -> None:
    """List the published profiles, with their states."""
    found = open_broker().publisher.published()
    if as_json:
        say_json([_to_json(one) for one in found])
    elif found:
        table(_COLUMNS, [_cells(one) for one in found], wide=wide)
    else:
        note("nothing is published yet; publish an account with: tokenferry profile publish NAME")


@app.command(
    "unpublish",
    epilog=examples(
        "tokenferry profile unpublish work",
        "tokenferry profile unpublish --profile default",
        "tokenferry profile unpublish --gateway",
    ),
)
def unpublish(
    name: OptionalAccountName = None,
    *,
    profile: Annotated[str | None, typer.Option("--profile", metavar="NAME", help="Only this profile.")] = None,
    gateway: Annotated[bool, typer.Option("--gateway", help="The gateway's profile.")] = False,
    as_json: JSON = False,
) -> None:
    """Remove the profiles of an account.

    Files that another program changed stay, and are named. The account stays.
    """
    if gateway and name:
        raise UsageError(f"account {name!r} and --gateway exclude each other; give one of them")
    if not (name or profile or gateway):
        raise UsageError("name an account, --profile or --gateway")
    publisher = open_broker().publisher
    with outcome_json(wanted=as_json) as document:
        document["unpublished"] = []
        for publication in publisher.find(name, profile, gateway=gateway):
            left = publisher.unpublish([publication])
            say(f"unpublished profile {publication.profile} of {publication.source}")
            for sentence in left:
                note(sentence)
            document["unpublished"].append({"profile": publication.profile, "account": publication.account})


def _publish_gateway(
    broker: Broker, home: Home, settings: Config, profile: str | None, *, activate: bool
) -> Publication:
    server = settings.server
    if not server.port:
        raise UsageError("[server] port is 0, so the gateway has another URL at each start; set a port in config.toml")
    url = gateway_url(settings)
    if not any(record.is_running and record.listens_at(url) for record in gateway_records(home)):
        raise TryLater(
            f"no gateway of this home listens on {url}, so its key is not published for that address; start it with: "
            "tokenferry serve"
        )
    with open_state(home) as state:
        local_key(home, state)
    return broker.publisher.publish_gateway(url, profile, activate=activate)


def _usage(publication: Publication) -> Iterator[str]:
    """The programs that use the profile, and the variables that keep others from it."""
    profile, folder = publication.profile, publication.folder
    try:
        active = folder.active(os.environ)
    except TokenferryError as fault:
        yield str(fault)
        return
    if active == profile:
        yield f"profile {profile} is the active one: programs use it unless they name another"
    else:
        yield f"programs use it with ANTHROPIC_PROFILE={profile}; the active profile is {active}"
    for variable in _SHADOWS:
        if os.environ.get(variable):
            yield f"{variable} is set here, and it overrides every profile; unset it for programs that should use one"


def _is_active(publication: Publication) -> bool:
    try:
        return publication.folder.active(os.environ) == publication.profile
    except TokenferryError:
        return False


def _cells(one: Published) -> tuple[str, ...]:
    publication = one.publication
    mark = "*" if _is_active(publication) else "-"
    expires = time_cell(one.expires_at, time.time())
    source = "gateway" if publication.account is None else publication.account
    return publication.profile, mark, source, one.fingerprint or "-", expires, one.standing.text


def _to_json(one: Published) -> dict[str, Any]:
    publication = one.publication
    return {
        "profile": publication.profile,
        "account": publication.account,
        "config": str(publication.config),
        "credentials": str(publication.credentials),
        "base_url": publication.base_url,
        "active": _is_active(publication),
        "fingerprint": one.fingerprint,
        "expires_at": one.expires_at,
        "state": one.standing.state,
        "text": one.standing.text,
    }
