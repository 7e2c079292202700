import sys
import time
from typing import Annotated, Final

import typer

from tokenferry.accounts import account_for, check_wanted
from tokenferry.audit import note_change
from tokenferry.broker import Broker
from tokenferry.cli._home import find, know, open_broker
from tokenferry.cli._logs import redactor
from tokenferry.cli._output import note, say
from tokenferry.cli._policy import ask_for_own
from tokenferry.cli._typer import examples, new_app
from tokenferry.config import Config
from tokenferry.credentials import Credential, Kind, OAuthToken, SetupToken
from tokenferry.errors import ConfigError, LoginFailed, PolicyRefused, TokenferryError, UnknownProvider, UsageError
from tokenferry.login import Addresses, Login, Paste, Wishes, open_browser
from tokenferry.oauth import OAuthEndpoints
from tokenferry.providers import Provider
from tokenferry.refresh import send
from tokenferry.settings import Home
from tokenferry.stores import Account, Document

app = new_app()

_SETUP_SCOPE: Final = "user:inference"
_SETUP_LIFETIME: Final = 31_536_000


@app.command(
    "login",
    epilog=examples(
        "tokenferry login --provider console",
        "tokenferry login work                             log the account in anew",
        "tokenferry login --provider console --no-browser  open the address elsewhere, and paste what it ends with",
        "tokenferry login --provider idp --callback-port 8085   for ssh -L 8085:localhost:8085",
    ),
)
def login(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="The account's name; by default the e-mail address.", show_default=False),
    ] = None,
    *,
    provider: Annotated[
        str | None, typer.Option("--provider", metavar="P", help="Where to log in; by default where NAME is.")
    ] = None,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Open no browser here; what the login ends with is pasted.")
    ] = False,
    callback_port: Annotated[
        int | None,
        typer.Option("--callback-port", metavar="N", min=1, max=65535, help="Where the browser comes back to."),
    ] = None,
    setup_token: Annotated[
        bool, typer.Option("--setup-token", help="Make a setup token: for inference alone, good for a year.")
    ] = False,
) -> None:
    """Log in at a provider, and keep the login as an account.

    The browser is opened, and an address is shown that works in any other one: what that page shows in the end is
    pasted here. Whichever comes first counts, within five minutes. A login of somebody who has an account at that
    provider already updates it.
    """
    home, config = find()
    broker = open_broker(home, config)
    known = _provider(broker, name, provider)
    kind: Kind = "setup-token" if setup_token else "oauth"
    if name is not None:
        check_wanted(name, known.name, kind, _documents(broker), broker.book.store.names())
    if setup_token and _SETUP_SCOPE not in known.oauth.scopes:
        raise UsageError(f"provider {known.name!r} makes no setup tokens, which are for {_SETUP_SCOPE}")
    endpoints = _endpoints(broker, known)
    _tell_whose_client(known)
    _check_policy(home, config, known)
    wishes = Wishes(
        scopes=(_SETUP_SCOPE,) if setup_token else None,
        lifetime=_SETUP_LIFETIME if setup_token else None,
        browser=not no_browser,
        port=callback_port,
    )
    _keep(broker, known, name, _log_in(endpoints, wishes), is_setup=setup_token)


def _provider(broker: Broker, name: str | None, provider: str | None) -> Provider:
    if provider is None and name is not None and name in broker.book.store.names():
        provider = broker.book.read(name).account.provider
    can = [one.name for one in broker.providers.values() if one.oauth.authorize_url or one.oauth.issuer]
    if provider is None:
        raise UsageError(f"say where to log in with --provider, one of: {', '.join(can)}")
    try:
        known = broker.providers[provider]
    except KeyError:
        raise UnknownProvider(
            f"there is no provider {provider!r}; those to log in at: {', '.join(can)}; declare others under "
            "[[providers]] in config.toml"
        ) from None
    if known.name not in can or known.oauth.client_id is None:
        missing = "client_id" if known.name in can else "authorize_url"
        again = " --replace" if name in broker.book.store.names() else ""
        raise UsageError(
            f"provider {provider!r} declares no {missing} under [providers.oauth], so nobody can log in there; store "
            f"what you have with: tokenferry accounts add {name or 'NAME'} --provider {provider}{again}"
        )
    return known


def _endpoints(broker: Broker, provider: Provider) -> OAuthEndpoints:
    endpoints = broker.login_endpoints(provider)
    missing = [key for key in ("authorize_url", "token_url") if getattr(endpoints, key) is None]
    if missing:
        raise ConfigError(
            f"provider {provider.name!r}: neither [providers.oauth] nor its issuer says {' and '.join(missing)}; "
            "declare that in config.toml"
        )
    return endpoints


def _documents(broker: Broker) -> dict[str, Document]:
    """Every account that can be read, in order."""
    store = broker.book.store
    names = [account.name for account in broker.book.listing().accounts]
    return {name: store.read(name) for name in names if name in store.names()}


def _tell_whose_client(provider: Provider) -> None:
    """Say it of logins with the vendor's own client id, after offering the vendor's own way."""
    if not provider.uses_vendors_client:
        return
    own = (
        ("claude /login", "tokenferry accounts add NAME --store claude-code")
        if provider.subscription
        else ("ant auth login", "tokenferry accounts add NAME --store anthropic-profile")
    )
    note(
        "\n".join(
            (
                "the vendor's own login serves as well, and tokenferry uses it where it is:",
                *own,
                "This one uses the public client id of the Claude Code CLI, which belongs to Anthropic.",
            )
        )
    )


def _check_policy(home: Home, config: Config, provider: Provider) -> None:
    """Have the policy stated before a subscription's login is made. Raises `PolicyRefused`, `ConfigError`."""
    if provider.subscription and config.policy.subscription != "own" and not ask_for_own(home, config):
        raise PolicyRefused(
            "nobody was logged in: without that statement a subscription's login is Claude Code's alone; log in with: "
            "claude /login"
        )


def _log_in(endpoints: OAuthEndpoints, wishes: Wishes) -> OAuthToken:
    login = Login(endpoints, wishes, show=_show, complain=note, send=send)
    redactor.know(login.authorization.verifier)
    redactor.know(login.authorization.state)
    token = login.run(_paste(is_only_way=not wishes.browser))
    know(token)
    return token


def _paste(*, is_only_way: bool) -> Paste | None:
    """What is typed here; what is piped in counts only where nothing else could answer."""
    if sys.stdin is None or not (is_only_way or sys.stdin.isatty()):
        return None
    try:
        return Paste(sys.stdin.fileno())
    except (OSError, ValueError):
        return None


def _show(addresses: Addresses) -> None:
    lines = []
    if addresses.local is not None:
        is_opened = open_browser(addresses.local)
        lines += ["your browser is opened at" if is_opened else "open this in a browser of this machine:"]
        lines += [addresses.local]
    if addresses.hosted is not None:
        lines += [
            "Or open this in any browser, and paste what it ends with here:" if lines else "open this in a browser:"
        ]
        lines += [addresses.hosted]
    if addresses.local is None:
        lines += ["Then paste here what the page shows, or its address."]
    lines += ["It waits for five minutes; Ctrl-C gives up."]
    note("\n".join(lines))


def _keep(broker: Broker, provider: Provider, wanted: str | None, token: OAuthToken, *, is_setup: bool) -> None:
    """Store the login; one that can't be stored is ended at its provider, for nobody could use it."""
    try:
        credential: Credential = _setup_token(token) if is_setup else token
        documents = _documents(broker)
        name, is_known = account_for(credential, token.email, provider.name, wanted, documents)
        check_wanted(name, provider.name, credential.kind, documents, broker.book.store.names())
        account = Account(name, provider.name, credential.kind, created_at=int(time.time()))
        has_replaced = broker.add(account, credential, replacing=name in documents)
    except TokenferryError:
        broker.revoke_token(provider.name, token)
        raise
    note_change(
        Home.from_environment(),
        "account.login",
        name,
        provider=provider.name,
        kind=credential.kind,
        fingerprint=credential.secret.fingerprint,
    )
    if is_known and name != wanted:
        note(f"{token.email or 'this login'} is account {name} already, which was updated")
    verb = "updated" if has_replaced else "stored"
    who = f" as {token.email}" if token.email else ""
    say(
        f"logged in{who}: {verb} account {name} "
        f"({provider.name}, {credential.kind}, fingerprint {credential.secret.fingerprint})"
    )


def _setup_token(token: OAuthToken) -> SetupToken:
    try:
        return SetupToken(token.secret, obtained_at=token.obtained_at, expires_at=token.expires_at)
    except UsageError:
        raise LoginFailed("the provider gave a token that is no setup token; nothing was stored") from None
