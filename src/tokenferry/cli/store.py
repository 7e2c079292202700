from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from msgspec.structs import replace

from tokenferry.accounts import move_accounts
from tokenferry.broker import FileBackend, open_backend
from tokenferry.cli._home import find
from tokenferry.cli._input import confirmed
from tokenferry.cli._output import note, outcome_json, say, say_json, say_lines
from tokenferry.cli._typer import JSON, examples, new_app
from tokenferry.config import store_url_fault
from tokenferry.databases import open_ledger, open_state, postgres
from tokenferry.errors import ConfigError, TryLater, UsageError
from tokenferry.fleet import SharedKey, shared_key
from tokenferry.ledger import Ledger, copy_ledger
from tokenferry.state import State, copy_state, gateway_records

if TYPE_CHECKING:
    from tokenferry.postgres import ConnectionPool, SchemaStatus, ServerFacts
    from tokenferry.settings import StoreSettings

app = new_app(
    "Set up and inspect the PostgreSQL database that several hosts share.",
    "tokenferry store init",
    "tokenferry store status",
)

_FILES: Final = "files"

Url = Annotated[
    str,
    typer.Option("--url", metavar="URL", help="Connect as the owner of the tables; by default [store] url."),
]


@app.command(
    "init",
    epilog=examples(
        "tokenferry store init",
        "tokenferry store init --url postgresql://owner@db/tokenferry --grant-to tokenferry",
    ),
)
def init(
    *,
    url: Url = "",
    grant_to: Annotated[
        str,
        typer.Option("--grant-to", metavar="ROLE", help="Let this role read and write rows, but not alter tables."),
    ] = "",
    as_json: JSON = False,
) -> None:
    """Create the tables in the database of [store] url; repeating it does no harm.

    Give tokenferry a database of its own. The tables may belong to another role than the gateways': name the owner with
    --url, and the gateways' role with --grant-to.
    """
    with outcome_json(wanted=as_json) as document:
        settings = _settings()
        connections = _connect(settings, url)
        ran = postgres().initialise(connections, settings.fleet)
        if grant_to:
            postgres().grant(connections, grant_to)
        say(f"fleet {settings.fleet} in {connections.name}: {_ran(ran)}")
        document |= {"fleet": settings.fleet, "migrations": list(ran)}


@app.command("upgrade", epilog=examples("tokenferry store upgrade"))
def upgrade(*, url: Url = "", as_json: JSON = False) -> None:
    """Upgrade the tables to this version, while gateways serve.

    A migration waits at most 3 seconds for its locks, lets others pass, and tries again.
    """
    with outcome_json(wanted=as_json) as document:
        connections = _connect(_settings(), url)
        status = postgres().schema_status(connections)
        if not status.fleet:
            raise ConfigError(f"{connections.name} has no tokenferry tables; create them with: tokenferry store init")
        ran = postgres().upgrade(connections)
        say(f"fleet {status.fleet} in {connections.name}: {_ran(ran)}")
        document |= {"fleet": status.fleet, "migrations": list(ran)}


@app.command("migrate", epilog=examples("tokenferry store migrate", "tokenferry store migrate --from URL --to files"))
def migrate(
    *,
    from_: Annotated[str, typer.Option("--from", metavar="files|URL", help="The present place.")] = _FILES,
    to: Annotated[str, typer.Option("--to", metavar="URL|files", help="The new place; by default [store] url.")] = "",
    as_json: JSON = False,
) -> None:
    """Move accounts, and copy client keys, cooldowns and usage, from this home's files into a database, or back.

    Stop this home's gateways first. At every moment only one side may refresh a login; after an interruption repeat the
    command. Keys work as before. Existing rows and files stay.
    """
    with outcome_json(wanted=as_json) as document:
        home, config = find()
        if (from_ == _FILES) == (to == _FILES):
            raise UsageError("copy from files to a database, or from a database to files")
        if any(record.is_running for record in gateway_records(home)):
            raise TryLater("a gateway of this home runs, and would miss the changes; stop it with: tokenferry stop")
        url = _typed(to if from_ == _FILES else from_)
        settings = replace(config.store, url=url or _settings().url)
        is_shared = from_ == _FILES  # to the database
        with State(home.state) as files, open_state(home, settings) as shared:
            found = copy_state(files, shared) if is_shared else copy_state(shared, files)
        say(f"copied {found.keys} client keys and {found.cooldowns} cooldowns; {found.present} keys were there already")
        for name in found.left:
            note(f"client key {name} was left out: another key has its name there; rename one, then run this again")
        places = FileBackend(home), open_backend(home, settings)
        accounts = move_accounts(*(places if is_shared else reversed(places)))
        say(f"moved {len(accounts.moved)} accounts{': ' * bool(accounts.moved)}{', '.join(accounts.moved)}")
        for name, why in accounts.left.items():
            note(f"account {name} was left where it is: {why}")
        requests = 0
        if home.ledger.exists() or not is_shared:
            with Ledger(home.ledger) as own, open_ledger(home, settings) as all_hosts:
                requests = copy_ledger(own, all_hosts) if is_shared else copy_ledger(all_hosts, own)
        say(f"copied what was used: {requests} requests that were not there")
        document |= {"keys": found.keys, "cooldowns": found.cooldowns, "left": list(found.left), "requests": requests}
        document |= {"accounts": list(accounts.moved), "accounts_left": accounts.left}
    if found.left or accounts.left:
        raise typer.Exit(1)


@app.command("status", epilog=examples("tokenferry store status", "tokenferry store status --json"))
def status(*, as_json: JSON = False) -> None:
    """Show where state is stored, and the state of the database. The exit code is 1 if it can't be used."""
    home, config = find()
    if not config.store.url:
        if as_json:
            say_json({"store": "files", "home": str(home.path)})
        else:
            say(f"everything is stored in files, in {home.path}")
        return
    connections = _connect(config.store)
    facts, schema = connections.facts(), postgres().schema_status(connections)
    fault = postgres().fault_of(facts, schema, config.store)
    shared = SharedKey() if fault else shared_key(postgres().PostgresTables(connections))
    if as_json:
        say_json(_json(connections, facts, schema, fault) | shared.to_json())
    else:
        say_lines((*_lines(connections, facts, schema, fault), *(f"sealing    {line}" for line in shared.lines())))
    raise typer.Exit(1 if fault else 0)


@app.command("forget-host", epilog=examples("tokenferry store forget-host 5f0c2b9d1e7a4c33"))
def forget_host(
    host: Annotated[str, typer.Argument(help="The host's id, as error messages show it.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    as_json: JSON = False,
) -> None:
    """Declare that a host is gone for good, together with the refreshes it had under way.

    Do so only if the host no longer runs: if it still uses its refresh token, the provider may see that token twice and
    end the login.
    """
    settings = _settings()
    if not yes and not confirmed(f"forget host {host}? It must be gone for good.", flag="--yes"):
        note("nothing was forgotten")
        raise typer.Exit(1)
    with outcome_json(wanted=as_json) as document:
        count = postgres().PostgresTables(_connect(settings)).forget_host(host)
        say(f"host {host}: {count} attempt{'s' * (count != 1)} to refresh counted as ended")
        document |= {"host": host, "attempts": count}


def _settings() -> StoreSettings:
    _, config = find()
    if not config.store.url:
        raise ConfigError(
            "config.toml names no database; set it with: tokenferry config set store.url postgresql://ROLE@HOST/NAME"
        )
    return config.store


def _connect(settings: StoreSettings, url: str = "") -> ConnectionPool:
    made: ConnectionPool = postgres().ConnectionPool(
        replace(settings, url=_typed(url), password_file=None) if url else settings
    )
    return made


def _typed(url: str) -> str:
    """A URL from the command line, which other users see. Raises `UsageError` for one with a password."""
    if url and (fault := store_url_fault(url)):
        raise UsageError(f"the URL {fault.partition(';')[0]}; put a password into ~/.pgpass")
    return url


def _ran(migrations: Any) -> str:
    return f"ran {', '.join(migrations)}" if migrations else "is up to date"


def _json(connections: ConnectionPool, facts: ServerFacts, schema: SchemaStatus, fault: str) -> dict[str, Any]:
    return {
        "store": "postgresql",
        "database": connections.name,
        "server_version": facts.version,
        "fleet": schema.fleet or None,
        "schema": schema.schema,
        "schema_of_this_version": schema.known,
        "is_pooled": facts.is_pooled,
        "is_standby": facts.is_standby,
        "synchronous_standbys": facts.standbys or None,
        "fault": fault or None,
    }


def _lines(connections: ConnectionPool, facts: ServerFacts, schema: SchemaStatus, fault: str) -> tuple[str, ...]:
    return (
        f"database   {connections.name} (version {facts.version // 10_000}.{facts.version % 10_000})",
        f"fleet      {schema.fleet or 'none'}",
        f"schema     {schema.schema}; this version of tokenferry has {schema.known}",
        f"reached    {'through a pooler' if facts.is_pooled else 'directly'}",
        f"standbys   {facts.standbys or 'none is waited for: a failover may lose the last moments'}",
        f"usable     {'no: ' + fault if fault else 'yes'}",
    )
