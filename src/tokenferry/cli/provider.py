import re
import time
from collections.abc import Iterable
from typing import Annotated, Any, Final

import typer

from tokenferry.accounts import read_credential
from tokenferry.audit import note_change
from tokenferry.broker import settle_default_provider
from tokenferry.cli._complete import ProviderName, preset_names, providers_and_presets
from tokenferry.cli._config_lists import edit_config
from tokenferry.cli._home import find, know, open_broker, what_serves
from tokenferry.cli._input import read_secret
from tokenferry.cli._output import note, outcome_json, say, say_json, say_lines
from tokenferry.cli._table import Column, table
from tokenferry.cli._typer import JSON, WIDE, examples, new_app
from tokenferry.config import Config, check_writable, load, with_provider, without_entry
from tokenferry.credentials import Credential
from tokenferry.errors import UnknownName, UnknownProvider, UsageError
from tokenferry.providers import PLACE_EXAMPLES, Preset, Provider, builtin_providers, names_place, presets
from tokenferry.settings import Home
from tokenferry.stores import Account, check_account_name

app = new_app(
    "List providers, and add known upstreams.",
    "tokenferry provider list",
    "tokenferry provider add z.ai",
    "tokenferry provider show z.ai",
)

_VARIABLE: Final = re.compile(r"\$?\{?([A-Za-z_][A-Za-z0-9_]*)\}?")


@app.command("list", epilog=examples("tokenferry provider list", "tokenferry provider list --json"))
def list_(*, wide: WIDE = False, as_json: JSON = False) -> None:
    """List declared and built-in providers, and the presets for `add`, each with its source."""
    _, config = find()
    found = [*map(_of_provider, config.providers.values())]
    found += [_of_preset(preset) for preset in presets().values() if preset.name not in config.providers]
    declared = _declared(config)
    for one in found:
        one["state"] = "preset" if "title" in one else "declared" if one["name"] in declared else "built in"
    if as_json:
        say_json(found)
        return
    table(
        (Column("name"), Column("address"), Column("state"), Column("source", wide=True)),
        [(one["name"], one["base_url"], one["state"], one.get("source") or "-") for one in found],
        wide=wide,
    )


@app.command("show", epilog=examples("tokenferry provider show z.ai", "tokenferry provider show openrouter --json"))
def show(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="A provider or a preset.", show_default=False, autocompletion=providers_and_presets
        ),
    ],
    *,
    as_json: JSON = False,
) -> None:
    """Show a provider or a preset: its address, how it takes keys, and the source of these facts."""
    _, config = find()
    if name in config.providers:
        shown = _of_provider(config.providers[name])
        shown["state"] = "declared" if name in _declared(config) else "built in"
    else:
        shown = {**_of_preset(_preset(name, tuple(config.providers))), "state": "preset"}
    if as_json:
        say_json(shown)
        return
    if shown.pop("tried_with_key", None) is not None:
        shown["checked"] = f"{shown['checked']}, not tried with a key"
    width = max(map(len, shown)) + 1
    say_lines(f"{key.replace('_', ' ')}:".ljust(width + 1) + _text(value) for key, value in shown.items())


@app.command(
    "add",
    epilog=examples(
        "tokenferry provider add z.ai                        asks for the key, or reads it from stdin",
        "pass show openrouter | tokenferry provider add openrouter",
        "tokenferry provider add deepseek --env DEEPSEEK_API_KEY",
        "tokenferry provider add moonshot --name kimi",
        "tokenferry provider add bedrock --region eu-central-1",
        "tokenferry provider add azure --resource my-resource",
        "tokenferry provider add vertex --project-id my-project --location global   with Google's credentials",
        "tokenferry provider add ollama                      needs no key",
    ),
)
def add(
    preset: Annotated[
        str,
        typer.Argument(
            metavar="PRESET", help="See: tokenferry provider list", show_default=False, autocompletion=preset_names
        ),
    ],
    *,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="The provider's name; by default the preset's.")
    ] = None,
    env: Annotated[
        str | None, typer.Option("--env", metavar="VAR", help="Use the key in this variable; store none.")
    ] = None,
    region: Annotated[
        str | None, typer.Option("--region", metavar="REGION", help="The region, for presets that need one.")
    ] = None,
    resource: Annotated[
        str | None, typer.Option("--resource", metavar="NAME", help="The resource, for presets that need one.")
    ] = None,
    project_id: Annotated[
        str | None, typer.Option("--project-id", metavar="ID", help="The project, for presets that need one.")
    ] = None,
    location: Annotated[
        str | None, typer.Option("--location", metavar="NAME", help="The location, for presets that need one.")
    ] = None,
    key: Annotated[bool, typer.Option("--key", help="Read a key even if the preset's server needs none.")] = False,
    as_json: JSON = False,
) -> None:
    """Declare a known upstream in config.toml, and store a key for it.

    The key is read from stdin, or from a prompt that doesn't show it, and becomes an account with the provider's name.
    With --env the configuration names a variable instead. Servers on this machine need no key. The file's comments stay
    as they are.
    """
    home, config = find()
    known = _preset(preset, tuple(builtin_providers()))
    name = name or known.name
    check_account_name(name)
    if name in config.providers:
        raise UsageError(f"provider {name} already exists; choose another name with --name")
    places = _places(known, region=region, resource=resource, project_id=project_id, location=location)
    variable = _variable(env)
    check_writable(home.config)
    _check_free(name, open_broker(home, config).book.store.names())
    by_google = known.google and not (variable or key)
    asks = key or known.placeholder_key is None
    credential = None if variable or by_google else _read_key(known, asks=asks)
    settle_default_provider(home, config)
    values = {"provider_type": known.name} if name != known.name else {}
    values |= places
    if by_google:
        values["google_credentials"] = "default"
    if variable:
        values["api_key"] = f"${variable}"
    _declare(home, name, values)
    note_change(home, "provider.add", name, provider=known.name)
    if credential is not None:
        _store(home, name, credential)
    _tell(home, known, name, variable, credential, as_json=as_json)


@app.command("remove", epilog=examples("tokenferry provider remove z.ai"))
def remove(name: ProviderName, *, as_json: JSON = False) -> None:
    """Remove a declared provider from config.toml; its accounts stay, but serve nothing.

    The file's comments stay as they are.
    """
    home, config = find()
    if name not in config.providers:
        raise UnknownProvider.among("provider", name, config.providers, "tokenferry provider list")
    if name not in _declared(config):
        raise UsageError(f"provider {name} is built in, and {home.config} doesn't declare it")
    settle_default_provider(home, config)
    edit_config(home, lambda content, path: without_entry(content, path, "providers", name))
    note_change(home, "provider.remove", name)
    with outcome_json(wanted=as_json) as document:
        say(f"removed provider {name} from {home.config}")
        left = [one.name for one in open_broker(*find()).book.listing().accounts if one.provider == name]
        if left:
            note(
                f"its accounts stay and serve nothing: {', '.join(left)}; remove each with: tokenferry account remove "
                "NAME"
            )
        document |= {"removed": name, "accounts_left": left}


def _preset(name: str, others: tuple[str, ...]) -> Preset:
    found = presets().get(name)
    if found is not None:
        return found
    if name in others:
        raise UsageError(f"{name} needs no preset; add an account with: tokenferry account add NAME --provider {name}")
    raise UnknownName.among("provider or preset", name, {*presets(), *others}, "tokenferry provider list")


def _places(known: Preset, **given: str | None) -> dict[str, str]:
    """The parts of the preset's address. Raises `UsageError` for a missing or superfluous one."""
    for name, value in given.items():
        option, what = f"--{name.replace('_', '-')}", name.removesuffix("_id")
        fix = f"give {option}, as in {option} {PLACE_EXAMPLES[name]}"
        if (name in known.places) != (value is not None):
            fix = fix if value is None else f"leave out {option}"
            raise UsageError(f"the address of {known.name} has {'a' if value is None else 'no'} {what}; {fix}")
        if value is not None and not names_place(name, value):
            raise UsageError(f"{value[:80]!r} names no {what}; {fix}")
    return {name: value for name, value in given.items() if value is not None}


def _variable(env: str | None) -> str | None:
    if env is None:
        return None
    found = _VARIABLE.fullmatch(env)
    if found is None:
        raise UsageError("--env takes the name of a variable such as ZAI_API_KEY, never the key itself")
    return found[1]


def _check_free(name: str, accounts: Iterable[str]) -> None:
    """Raise `UsageError` if an account has the provider's name, which the account of the new key needs."""
    taken = next((other for other in accounts if other.casefold() == name.casefold()), None)
    if taken is not None:
        raise UsageError(
            f"account {taken} already exists, and the key needs one of that name; choose another with --name"
        )


def _read_key(known: Preset, *, asks: bool) -> Credential:
    given = read_secret("key") if asks else (known.placeholder_key or "").encode()
    credential = read_credential(given, "api-key", "api-key")
    know(credential)
    if fault := known.provider.key_fault(credential):
        raise UsageError(f"the key given is not usable: {fault}; copy the key again; nothing was declared")
    return credential


def _declare(home: Home, name: str, values: dict[str, str]) -> None:
    edit_config(home, lambda content, path: with_provider(content, path, name, values))


def _store(home: Home, name: str, credential: Credential) -> None:
    broker = open_broker(home, load(home.config, statement=home.statement))
    account = Account(name, name, credential.kind, created_at=int(time.time()))
    broker.add(account, credential)
    fingerprint = credential.secret.fingerprint
    note_change(home, "account.add", name, provider=name, kind=account.kind, fingerprint=fingerprint)


def _tell(
    home: Home, preset: Preset, name: str, variable: str | None, credential: Credential | None, *, as_json: bool
) -> None:
    fingerprint = None if credential is None else credential.secret.fingerprint
    if as_json:
        say_json(
            {
                **_of_preset(preset),
                "name": name,
                "preset": preset.name,
                "variable": variable,
                "account": name if fingerprint else None,
                "fingerprint": fingerprint,
                "config": str(home.config),
            }
        )
        return
    config = load(home.config, statement=home.statement)
    say(f"declared provider {name} ({config.providers[name].base_url}) in {home.config}, after {preset.source}")
    if fingerprint:
        say(f"stored account {name} ({name}, api-key, fingerprint {fingerprint})")
    if credential is not None and (warning := preset.provider.key_warning(name, credential)):
        note(warning)
    if preset.second_hand:
        note(f"the address of {preset.title} is from a secondary source; check it with the vendor")
    broker = open_broker(home, config)
    if fingerprint or name in {one.name for one in broker.accounts()}:
        say(what_serves(name, broker, config))
    elif preset.google and not variable:
        say(f"gets its token from Google's application default credentials; try it with: tokenferry token {name}")
    else:
        say(f"serves nothing yet: it has no account; add one with: tokenferry account add NAME --provider {name}")


def _declared(config: Config) -> set[str]:
    builtin = builtin_providers()
    return {name for name, one in config.providers.items() if builtin.get(name) != one}


def _of_provider(provider: Provider) -> dict[str, Any]:
    preset = presets().get(provider.provider_type)
    is_there = preset is not None and preset.base_url == provider.base_url
    return {
        "name": provider.name,
        "type": provider.provider_type,
        "base_url": provider.base_url,
        "wire_format": provider.wire_format,
        "key_header": provider.key_header,
        "tokens_exchanged_at": provider.endpoints.token_exchange and provider.endpoints.token_exchange.url,
        "enabled": provider.enabled,
        "passthrough": provider.passthrough,
        "limits": str(provider.caps) if provider.caps.is_limited else None,
        "source": preset.source if preset is not None and is_there else None,
    }


def _of_preset(preset: Preset) -> dict[str, Any]:
    return {
        "name": preset.name,
        "title": preset.title,
        "base_url": preset.base_url,
        "wire_format": preset.wire_format,
        "key_header": preset.key_header,
        "env_var": preset.env_var,
        "source": preset.source,
        "second_hand": preset.second_hand,
        "checked": preset.checked.isoformat(),
        "tried_with_key": False,
    }


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)
