import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Final, get_args
from urllib.parse import urlsplit

from tokenferry.oauth import OAuthEndpoints
from tokenferry.providers._presets import other_formats, presets
from tokenferry.providers._provider import KIND_OF_AUTH_TYPE, Provider, logs_in_at_subscription, on_host
from tokenferry.providers._table import Table, is_loopback, url_fault
from tokenferry.settings import Strategy

_DAY: Final = 86_400
_RESERVED: Final = frozenset(
    {
        "client_id",
        "assertion",
        "client_secret",
        "code_challenge",
        "code_challenge_method",
        "grant_type",
        "redirect_uri",
        "response_mode",
        "response_type",
        "scope",
        "state",
    }
)
_SAYS: Final = {"authorize_parameters": "the login", "federation_parameters": "the exchange"}
_URLS: Final = (
    "issuer",
    "authorize_url",
    "token_url",
    "revoke_url",
    "device_url",
    "federation_url",
    "api_key_url",
    "profile_url",
    "redirect_uri",
)
_ENTERPRISES: Final = ("issuer", "authorize_url", "token_url", "revoke_url", "device_url", "redirect_uri")
"""What an authorization server of one's own has in the place of the vendor's."""
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9-]{1,64}")
_HEADER_VALUE: Final = re.compile(r"[!-~]+(?: [!-~]+)*")
_OWN_HEADERS: Final = frozenset(
    {"accept", "authorization", "content-length", "content-type", "host", "transfer-encoding"}
)
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SUBSCRIPTION_TYPE: Final = "claude-max"
_VENDOR_HOSTS: Final = ("anthropic.com",)
_VENDOR_PREFIXES: Final = ("sk-ant-",)
_VENDOR_KEY: Final = r"sk-ant-api[0-9]{2}-[A-Za-z0-9_-]+"
_WIRE_FORMATS: Final = ("anthropic", "openai", "gemini")
_KEY_HEADERS: Final = ("x-api-key", "authorization")
_ALIASES: Final = {"apikey": "api_key"}  # claude-code-mux's
_LONGEST_NAME: Final = 64
_API_PATH: Final = re.compile(r"/+v1(/+messages)?$")
_NOWHERE: Final = "https://nowhere.invalid"  # stands in for a base_url that is missing or wrong


@cache
def builtin_providers() -> Mapping[str, Provider]:
    """The providers that need no declaration, by name."""
    text = files("tokenferry.providers").joinpath("builtin.toml").read_text(encoding="utf-8")
    problems: list[str] = []
    declared: dict[str, Provider] = {}
    for table in Table(tomllib.loads(text), "", problems).tables("providers"):
        provider = declare(table, declared)
        assert provider is not None
        if on_host(provider.base_url, _VENDOR_HOSTS):
            provider = replace(provider, vendor_hosts=_VENDOR_HOSTS, key_prefixes=_VENDOR_PREFIXES)
        declared[provider.name] = provider
    assert not problems, problems
    return MappingProxyType(declared)


def key_shapes() -> tuple[str, ...]:
    """The regular expressions that the API keys of known vendors match whole."""
    return (_VENDOR_KEY, *(one.key_shape for one in presets().values() if one.key_shape))


def declare(table: Table, base: Mapping[str, Provider]) -> Provider | None:
    """Read one `[[providers]]` table. `base` holds what it may amend (by name) or derive from (by provider_type).

    Faults are noted in the table; None when there is no usable name or base_url.
    """
    name = table.text("name")
    if name is not None and (len(name) > _LONGEST_NAME or not name.isprintable() or name != name.strip()):
        table.problem("name", f"must be at most {_LONGEST_NAME} printable characters, without blanks around them")
        name = None  # listings, logs and what follows would show it
    if name is not None:
        table.path = f"providers.{name}"
    elif "name" not in table:
        table.problem("name", "is missing")
    inherited = base.get(name or "")
    provider_type = table.text("provider_type", inherited.provider_type if inherited else name)
    if provider_type == "anthropic" and "oauth_provider" in table and table.text("auth_type") == "oauth":
        provider_type = _SUBSCRIPTION_TYPE  # the older spelling of it, as oauth_provider is of accounts
    parent = inherited or base.get(provider_type or "") or _preset(provider_type)
    other_format = other_formats().get(provider_type or "") if parent is None else None
    if inherited and provider_type != inherited.provider_type:
        table.problem("provider_type", f"can't be changed for {name}; give a provider of another type another name")
    if parent is None and other_format is None and provider_type != name:
        known = ", ".join((*base, *presets()))
        table.problem("provider_type", f"must be one of {known}; leave it out for a provider of your own")

    url = table.url("base_url", parent.base_url if parent else _NOWHERE if other_format else None)
    if url is None and "base_url" not in table:
        table.problem("base_url", "is missing")
    wire_format = table.choice(
        "wire_format", parent.wire_format if parent else other_format or "anthropic", _WIRE_FORMATS
    )
    base_url = _base_url(url or _NOWHERE, wire_format)
    oauth = _endpoints(table.table("oauth"), parent.oauth if parent else OAuthEndpoints(), base_url)

    forced = bool(parent and parent.subscription) or logs_in_at_subscription(base_url, oauth.at(base_url))
    subscription = table.flag("subscription", forced)
    if forced and not subscription:
        table.problem("subscription", "can't be switched off here: these logins are billed to a Claude subscription")
    auth_type = table.choice("auth_type", parent.auth_type if parent else "api_key", KIND_OF_AUTH_TYPE, _ALIASES)
    provider = Provider(
        name=name or "",
        provider_type=parent.provider_type if parent else provider_type or "",
        base_url=base_url,
        auth_type=auth_type,
        enabled=table.flag("enabled", parent.enabled if inherited and parent else True),
        subscription=subscription or forced,
        accounts=_accounts(table, inherited.accounts if inherited else None),
        strategy=table.choice("strategy", parent.strategy if parent else None, get_args(Strategy)),
        usage_url=_own_url(table, "usage_url", base_url, inherited.usage_url if inherited else None),
        check_url=_own_url(table, "check_url", base_url, parent.check_url if parent else None),
        variable=_variable(table, parent.variable if parent else None),
        oauth=oauth,
        wire_format=wire_format,
        key_header=table.choice("key_header", parent.key_header if parent else "x-api-key", _KEY_HEADERS),
        passthrough=table.flag("passthrough", parent.passthrough if inherited and parent else False),
        vendor_hosts=parent.vendor_hosts if parent else (),
        key_prefixes=parent.key_prefixes if parent else (),
        key_shape=_key_shape(base_url),
    )
    if provider.passthrough and not provider.is_at_vendor:
        hosts = " or ".join(provider.vendor_hosts)
        table.problem(
            "passthrough", f"is for the vendor's own hosts ({hosts}): a client's credential goes to no other vendor's"
        )
    return None if name is None or url is None else provider


def _key_shape(base_url: str) -> str | None:
    """What the API keys of a known vendor's host look like, whatever the provider there calls itself."""
    if on_host(base_url, _VENDOR_HOSTS):
        return _VENDOR_KEY
    return next((one.key_shape for one in presets().values() if on_host(base_url, one.hosts)), None)


def _preset(name: str | None) -> Provider | None:
    preset = presets().get(name or "")
    return None if preset is None else preset.provider


def _accounts(table: Table, default: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """`accounts`, or its older spelling `oauth_provider = NAME` for exactly one."""
    accounts: tuple[str, ...] | None = table.texts("accounts", default)
    alias = table.text("oauth_provider")
    if alias is None:
        return accounts
    if "accounts" in table:
        table.problem("oauth_provider", "and accounts say the same thing; keep one of them")
    return (alias,)


def _base_url(url: str, wire_format: str) -> str:
    """Without what a request's path begins with: clients of other programs are told to write it."""
    base_url = url.rstrip("/")
    return _API_PATH.sub("", base_url) if wire_format == "anthropic" else base_url


def _own_url(table: Table, key: str, base_url: str, default: str | None) -> str | None:
    """`{base_url}` stands for the provider's own. The credential is sent there, so it must be the same host."""
    template = table.text(key, default)
    if template is None:
        return None
    url = template.replace("{base_url}", base_url)
    if fault := url_fault(url):
        table.problem(key, fault)
    elif urlsplit(url).netloc.lower() != urlsplit(base_url).netloc.lower():
        table.problem(key, "must be on the host of base_url, for the credential is sent to it")
    return template


def _variable(table: Table, default: str | None) -> str | None:
    variable = table.text("variable", default)
    if variable is not None and not _VARIABLE.fullmatch(variable):
        table.problem("variable", "must be the name of an environment variable, as in OPENAI_API_KEY")
    return variable


def _endpoints(table: Table, default: OAuthEndpoints, base_url: str) -> OAuthEndpoints:
    enterprise = table.url("enterprise_url")
    if enterprise is not None and not any(getattr(default, key) for key in _ENTERPRISES):
        table.problem("enterprise_url", "moves the endpoints of a provider_type, and this one has none; declare them")
    if enterprise is not None:
        default = _at_enterprise(default, enterprise.rstrip("/"))
    # What takes JSON instead of the standard's form is declared; a server that is known by its metadata is standard.
    body = "form" if "issuer" in table and default.token_url is None else default.token_body
    endpoints = OAuthEndpoints(
        issuer=table.text("issuer", default.issuer),
        authorize_url=table.text("authorize_url", default.authorize_url),
        authorize_parameters=_parameters(table, "authorize_parameters", default.authorize_parameters),
        token_url=table.text("token_url", default.token_url),
        revoke_url=table.text("revoke_url", default.revoke_url),
        device_url=table.text("device_url", default.device_url),
        federation_url=table.text("federation_url", default.federation_url),
        federation_parameters=_parameters(table, "federation_parameters", default.federation_parameters),
        federation_headers=_headers(table, default.federation_headers),
        api_key_url=table.text("api_key_url", default.api_key_url),
        profile_url=table.text("profile_url", default.profile_url),
        client_id=table.text("client_id", default.client_id),
        client_secret_file=table.text("client_secret_file", default.client_secret_file),
        client_auth=table.choice("client_auth", default.client_auth, ("body", "basic")),
        scopes=table.texts("scopes", default.scopes),
        redirect_uri=table.text("redirect_uri", default.redirect_uri),
        loopback_redirect=table.text("loopback_redirect", default.loopback_redirect),
        token_body=table.choice("token_body", body, ("json", "form")),
        state_in_exchange=table.flag("state_in_exchange", default.state_in_exchange),
        reuse_grace_s=table.number("reuse_grace_s", default.reuse_grace_s, least=0, most=_DAY),
    )
    for key in _URLS:
        url = getattr(endpoints.at(base_url), key)
        if url and (fault := url_fault(url)):
            table.problem(key, fault)
    if endpoints.loopback_redirect and not _is_loopback_redirect(endpoints.loopback_redirect):
        table.problem("loopback_redirect", "must be like http://localhost:{port}/callback: an address on this machine")
    table.done()
    return endpoints


def _at_enterprise(endpoints: OAuthEndpoints, enterprise: str) -> OAuthEndpoints:
    """The endpoints of a type of provider at an enterprise's own host, under the paths they have."""

    def moved(url: str | None) -> str | None:
        if url is None:
            return None
        path = url.removeprefix("{base_url}")
        return enterprise + (path if path != url else urlsplit(url).path)

    urls: dict[str, Any] = {key: moved(getattr(endpoints, key)) for key in _ENTERPRISES}
    return replace(endpoints, **urls)


def _parameters(table: Table, key: str, default: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    parameters = table.strings(key, default)
    if reserved := sorted({name for name, _ in parameters} & _RESERVED):
        table.problem(key, f"must not hold {', '.join(reserved)}, which {_SAYS[key]} itself says")
    return parameters


def _headers(table: Table, default: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    headers = table.strings("federation_headers", default)
    for name, value in headers:
        if not _HEADER_NAME.fullmatch(name) or name.lower() in _OWN_HEADERS or not _HEADER_VALUE.fullmatch(value):
            table.problem("federation_headers", f"must not hold {name!r}, or its value can be in no header")
    return tuple((name.lower(), value) for name, value in headers)


def _is_loopback_redirect(template: str) -> bool:
    url = template.replace("{port}", "1")
    if url_fault(url) is not None:
        return False
    parts = urlsplit(url)
    return parts.scheme == "http" and is_loopback(parts.hostname) and parts.port is not None and parts.path != ""
