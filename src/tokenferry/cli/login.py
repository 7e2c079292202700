from typing import Annotated, Final

import typer

from tokenferry.broker import Broker, check_login_name
from tokenferry.cli._complete import account_names, provider_names
from tokenferry.cli._describe import row
from tokenferry.cli._home import find, open_broker
from tokenferry.cli._login import keep, log_in, log_in_elsewhere
from tokenferry.cli._output import note, say_json, sentences_on_stderr
from tokenferry.cli._policy import ask_for_own
from tokenferry.cli._typer import JSON, examples, new_app
from tokenferry.config import Config
from tokenferry.credentials import Kind
from tokenferry.errors import ConfigError, PolicyRefused, UnknownProvider, UsageError
from tokenferry.login import LoginOptions
from tokenferry.oauth import OAuthEndpoints
from tokenferry.providers import Provider
from tokenferry.settings import Home

app = new_app()

_SETUP_SCOPE: Final = "user:inference"
_SETUP_LIFETIME: Final = 31_536_000


@app.command(
    "login",
    epilog=examples(
        "tokenferry login --provider console",
        "tokenferry login work                             log in again",
        "tokenferry login --provider console --create-api-key   an API key instead of a login",
        "tokenferry login --provider console --no-browser  open the address elsewhere, paste what it shows",
        "tokenferry login --provider idp --device          confirm a code on another device",
        "tokenferry login --provider idp --callback-port 8085   for ssh -L 8085:localhost:8085",
    ),
)
def login(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="The account's name; by default the e-mail address.",
            show_default=False,
            autocompletion=account_names,
        ),
    ] = None,
    *,
    provider: Annotated[
        str | None,
        typer.Option(
            "--provider",
            metavar="NAME",
            help="The provider; by default that of the account NAME.",
            autocompletion=provider_names,
        ),
    ] = None,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Don't open a browser; paste what the last page shows.")
    ] = False,
    callback_port: Annotated[
        int | None,
        typer.Option(
            "--callback-port", metavar="N", min=1, max=65535, help="The local port that the browser returns to."
        ),
    ] = None,
    device: Annotated[bool, typer.Option("--device", help="Show a code to confirm in any browser.")] = False,
    create_api_key: Annotated[
        bool, typer.Option("--create-api-key", help="Create an API key, store it, and revoke the login.")
    ] = False,
    setup_token: Annotated[
        bool, typer.Option("--setup-token", help="Create a setup token: for inference only, valid for a year.")
    ] = False,
    as_json: JSON = False,
) -> None:
    """Log in at a provider, and store the login as an account.

    This opens your browser, and shows an address for any other browser, whose last page shows a code to paste here. You
    have five minutes. If you already have an account at that provider, the login updates it.
    """
    if device and (no_browser or callback_port is not None or setup_token):
        raise UsageError("--device excludes --no-browser, --callback-port and --setup-token")
    if create_api_key and setup_token:
        raise UsageError("--create-api-key and --setup-token exclude each other; give one of them")
    home, config = find()
    broker = open_broker(home, config)
    known = _provider(broker, name, provider, device=device)
    kind: Kind = "setup-token" if setup_token else "api-key" if create_api_key else "oauth"
    if name is not None:
        check_login_name(broker, name, known.name, kind)
    _check_kind(broker, known, kind)
    device = device or not (known.oauth.authorization_endpoint or known.oauth.issuer)
    endpoints, device = _endpoints(broker, known, device=device)
    _tell_whose_client(known)
    _check_policy(home, config, known)
    options = LoginOptions(
        scopes=(_SETUP_SCOPE,) if setup_token else None,
        lifetime=_SETUP_LIFETIME if setup_token else None,
        browser=not no_browser,
        port=callback_port,
    )
    with sentences_on_stderr(wanted=as_json):
        token = log_in_elsewhere(endpoints) if device else log_in(endpoints, options)
        stored = keep(broker, known, name, token, kind)
    if as_json:
        say_json(row(open_broker(home, config), stored).to_json())


def _check_kind(broker: Broker, provider: Provider, kind: Kind) -> None:
    """Raise `UsageError` if the provider's logins can't become this kind of credential."""
    if kind == "setup-token" and _SETUP_SCOPE not in provider.oauth.scopes:
        raise UsageError(f"provider {provider.name!r} makes no setup tokens, which are for {_SETUP_SCOPE}")
    if kind == "api-key" and provider.oauth.api_key_url is None:
        can = [one.name for one in broker.providers.values() if one.oauth.api_key_url]
        raise UsageError(
            f"a login at provider {provider.name!r} makes no API keys; those at {', '.join(can)} do, and others where "
            "[providers.oauth] names an api_key_url"
        )


def _provider(broker: Broker, name: str | None, provider: str | None, *, device: bool) -> Provider:
    if provider is None and name is not None and name in broker.book.store.names():
        provider = broker.book.read(name).account.provider
    can = [one.name for one in broker.providers.values() if _can_log_in(one, device=device)]
    if provider is None:
        raise UsageError(f"name a provider with --provider, one of: {', '.join(can)}")
    try:
        known = broker.providers[provider]
    except KeyError:
        raise UnknownProvider.at_login(provider, can) from None
    if known.name not in can or known.oauth.client_id is None:
        missing = (
            "client_id"
            if known.name in can
            else "device_authorization_endpoint"
            if device
            else "authorization_endpoint"
        )
        again = " --replace" if name in broker.book.store.names() else ""
        raise UsageError(
            f"provider {provider!r} declares no {missing} under [providers.oauth], so it accepts no login"
            f"{' by a code' if device else ''}; log in at one of {', '.join(can)}, or store what you have with: "
            f"tokenferry account add {name or 'NAME'} --provider {provider}{again}"
        )
    return known


def _can_log_in(provider: Provider, *, device: bool) -> bool:
    oauth = provider.oauth
    return bool(oauth.issuer or oauth.device_authorization_endpoint or (oauth.authorization_endpoint and not device))


def _endpoints(broker: Broker, provider: Provider, *, device: bool) -> tuple[OAuthEndpoints, bool]:
    """The provider's endpoints, and whether the login uses a device code: also if its issuer supports nothing else."""
    endpoints = broker.login_endpoints(provider, device=device)
    device = device or (
        endpoints.authorization_endpoint is None and endpoints.device_authorization_endpoint is not None
    )
    missing = [
        key
        for key in ("device_authorization_endpoint" if device else "authorization_endpoint", "token_endpoint")
        if getattr(endpoints, key) is None
    ]
    if missing:
        raise ConfigError(
            f"provider {provider.name!r}: neither [providers.oauth] nor its issuer says {' and '.join(missing)}; "
            "declare that in config.toml"
        )
    return endpoints, device


def _tell_whose_client(provider: Provider) -> None:
    """For a login with the vendor's own client id: name the vendor's own command first, then say whose id this is."""
    if not provider.uses_vendors_client:
        return
    own = (
        ("claude /login", "tokenferry claude-code attach NAME")
        if provider.subscription
        else ("ant auth login", "tokenferry account add NAME --store anthropic-profile")
    )
    note(
        "\n".join(
            (
                "the vendor's own login works, too, and stays where it is:",
                *own,
                "This one uses the public client id of the Claude Code CLI, which belongs to Anthropic.",
            )
        )
    )


def _check_policy(home: Home, config: Config, provider: Provider) -> None:
    """Ask for the policy before a subscription's login is made. Raises `PolicyRefused`, `ConfigError`."""
    if provider.subscription and config.policy.subscriptions != "own-use" and not ask_for_own(home, config):
        raise PolicyRefused(
            "no login was made: without that statement a subscription is for Claude Code alone; log in with: "
            "claude /login"
        )
