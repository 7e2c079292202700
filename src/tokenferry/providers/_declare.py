import re
import tomllib
from collections.abc import Container, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

from msgspec.structs import replace

from tokenferry.config_key import ConfigKey, keys_of
from tokenferry.oauth import SUBJECT, OAuthEndpoints, TokenExchange
from tokenferry.providers._presets import KEY_HEADERS, PLACES, filled, other_formats, places_in, presets, quirks
from tokenferry.providers._provider import NOWHERE, Provider, WireFormat, logs_in_at_subscription, on_host
from tokenferry.providers._table import Reading, Table, is_loopback, url_fault

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
    "authorization_endpoint",
    "token_endpoint",
    "revocation_endpoint",
    "device_authorization_endpoint",
    "federation_url",
    "api_key_url",
    "profile_url",
    "redirect_uri",
)
_ENTERPRISES: Final = (
    "issuer",
    "authorization_endpoint",
    "token_endpoint",
    "revocation_endpoint",
    "device_authorization_endpoint",
    "redirect_uri",
)
"""The parts of the vendor's addresses that differ at an enterprise's own authorization server."""
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9-]{1,64}")
_HEADER_VALUE: Final = re.compile(r"[!-~]+(?: [!-~]+)*")
_OWN_HEADERS: Final = frozenset(
    {"accept", "authorization", "content-length", "content-type", "host", "transfer-encoding"}
)
_NOT_DECLARED: Final = frozenset({"user-agent", "host", "content-length", "content-type", "transfer-encoding"})
"""Headers of an exchange that tokenferry sets itself."""
_NOT_FIXED: Final = frozenset(
    {"user-agent", "x-api-key", "api-key", "x-goog-api-key", "cookie", "accept-encoding", "connection", "via"}
)
"""Headers that no declaration may set: credentials, and those that identify a client."""
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FORMER_TYPES: Final = {"vertex-ai": "vertex"}
"""The names of types in claude-code-mux."""
_SUBSCRIPTION_TYPE: Final = "claude-max"
_VENDOR_HOSTS: Final = ("anthropic.com",)
_VENDOR_PREFIXES: Final = ("sk-ant-",)
_VENDOR_KEY: Final = r"sk-ant-api[0-9]{2}-[A-Za-z0-9_-]+"
_REGION_NAME: Final = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_PROJECT: Final = re.compile(r"(?:[a-z][a-z0-9.-]{0,62}:)?[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?|[0-9]{1,20}")
_RESOURCE_NAME: Final = re.compile(r"[a-zA-Z0-9]+(-[a-zA-Z0-9]+)*")
_PLACES: Final = {
    "region": _REGION_NAME,
    "resource": _RESOURCE_NAME,
    "project_id": _PROJECT,
    "location": _REGION_NAME,
}
PLACE_EXAMPLES: Final = {
    "region": "eu-central-1",
    "resource": "my-resource",
    "project_id": "my-project",
    "location": "europe-west4",
}
_API_VERSION: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z.-]{0,63}")
_LONGEST_NAME: Final = 64
_API_PATH: Final = re.compile(r"/+v1(/+messages)?$")
_KEYS: Final = keys_of(Provider)
_OAUTH_PROVIDER: Final = ConfigKey("The former spelling of accounts, for exactly one.", name="oauth_provider")
ENTERPRISE_URL: Final = ConfigKey(
    "An enterprise's own host for the endpoints of its type.",
    kind="url",
    example='"https://login.corp.example.com"',
    name="enterprise_url",
)


@cache
def builtin_providers() -> Mapping[str, Provider]:
    """Give the providers that need no declaration, by name."""
    text = Path(__file__).with_name("builtin.toml").read_text(encoding="utf-8")
    reading = Reading()
    declared: dict[str, Provider] = {}
    for table in Table(tomllib.loads(text), "", reading).tables("providers"):
        provider = declare(table, declared)
        assert provider is not None
        if on_host(provider.base_url, _VENDOR_HOSTS):
            provider = replace(provider, vendor_hosts=_VENDOR_HOSTS, key_prefixes=_VENDOR_PREFIXES)
        declared[provider.name] = provider
    assert not reading.faults, reading.faults
    return MappingProxyType(declared)


def key_shapes() -> tuple[str, ...]:
    """Give the regular expressions that the API keys of known vendors match as a whole."""
    return (_VENDOR_KEY, *(one.key_shape for one in presets().values() if one.key_shape))


def declare(table: Table, base: Mapping[str, Provider]) -> Provider | None:
    """Read one `[[providers]]` table.

    `base` holds the providers that it may change (by name) or start from (by provider_type). Faults are noted in the
    table. Gives None without a usable name or base_url.
    """
    if _is_printable(table.raw("name")):
        table.path = f"providers.{table.raw('name')}"
    name: str | None = table.get(_KEYS["name"], None)
    if "name" not in table:
        table.problem("name", "is missing")
    elif name is not None and not _is_printable(name):
        table.problem("name", f"must be at most {_LONGEST_NAME} printable characters, without blanks around them")
        name = None  # listings, logs and what follows would show it
    start = _start(table, name, base)
    base_url = table.get(_KEYS["base_url"], start.base_url)
    has_url = base_url != NOWHERE or start.provider_type in other_formats()
    if not has_url and "base_url" not in table:
        table.problem("base_url", "is missing")
    wire_format: WireFormat = table.get(_KEYS["wire_format"], start.wire_format)
    base_url = _base_url(_at_its_place(table, base_url), wire_format)
    oauth = _endpoints(table, start.oauth, base_url)

    forced = start.subscription or logs_in_at_subscription(base_url, oauth.at(base_url))
    start = replace(start, base_url=base_url, oauth=oauth, subscription=forced, key_shape=_key_shape(base_url))
    if wire_format != "anthropic":
        usual = KEY_HEADERS[wire_format]
        header = usual if start.key_header in KEY_HEADERS.values() else start.key_header
        start = replace(start, key_header=header, quirks=tuple(quirks(start.provider_type).items()))
    provider = table.read(start, but=("name", "provider_type", "base_url", "wire_format"))
    provider = replace(provider, headers=_headers(table, "headers", provider.headers, _OWN_HEADERS | _NOT_FIXED))
    if forced and not provider.subscription:
        table.problem("subscription", "can't be switched off here: these logins are billed to a Claude subscription")
    provider = replace(
        provider,
        wire_format=wire_format,
        subscription=provider.subscription or forced,
        caps=table.read(start.caps),
        accounts=_accounts(table, provider.accounts),
    )
    _check(table, provider)
    return provider if name is not None and has_url else None


def names_place(name: str, value: str) -> bool:
    """Tell whether a region, resource, project or location (`name`) is valid.

    A valid one can't change the rest of the address.
    """
    return len(value) <= _LONGEST_NAME and _PLACES[name].fullmatch(value) is not None


def _at_its_place(table: Table, base_url: str) -> str:
    """Give the address with the region, resource, project or location that the table names."""
    needed = places_in(base_url)
    for name in PLACES:
        if name in table and name not in needed:
            table.note(name, f"does nothing: the provider's address has no {name.removesuffix('_id')} in it")
    places, is_whole = {}, True
    for name in needed:
        value = places[name] = table.raw(name)
        if isinstance(value, str) and names_place(name, value):
            continue
        what, is_whole = name.removesuffix("_id"), False
        problem = f"must name a {what}" if name in table else "is missing: its address has one"
        table.problem(name, f'{problem}, as in "{PLACE_EXAMPLES[name]}"')
    return filled(base_url, places) if is_whole else NOWHERE


def _is_printable(name: object) -> bool:
    return isinstance(name, str) and 0 < len(name) <= _LONGEST_NAME and name.isprintable() and name == name.strip()


def _start(table: Table, name: str | None, base: Mapping[str, Provider]) -> Provider:
    """Give the provider that a table starts from: the one it changes, or the one of its type."""
    inherited = base.get(name or "")
    provider_type = table.get(_KEYS["provider_type"], inherited.provider_type if inherited else name)
    if provider_type == "anthropic" and "oauth_provider" in table and table.raw("auth_type") == "oauth":
        provider_type = _SUBSCRIPTION_TYPE  # the older spelling of it, as oauth_provider is of accounts
    if inherited is not None:
        if provider_type != inherited.provider_type:
            table.problem("provider_type", f"can't be changed for {name}; give a provider of another type another name")
        return inherited
    if (parent := base.get(provider_type or "") or _preset(provider_type)) is not None:
        return replace(
            parent, name=name or "", enabled=True, accounts=None, usage_url=None, passthrough=False, models=()
        )
    other_format = other_formats().get(provider_type or "")
    if other_format is None and provider_type != name:
        known = ", ".join((*base, *presets()))
        table.problem("provider_type", f"must be one of {known}; leave it out for a provider of your own")
    return Provider(name or "", provider_type or "", NOWHERE, wire_format=other_format or "anthropic")


def _check(table: Table, provider: Provider) -> None:
    if provider.env_var is not None and not _VARIABLE.fullmatch(provider.env_var):
        table.problem("env_var", "must be the name of an environment variable, as in OPENAI_API_KEY")
    if provider.api_version is not None and not _API_VERSION.fullmatch(provider.api_version):
        table.problem("api_version", 'must be a version of its API, as in "2024-10-21"')
    if provider.api_version is not None and not provider.dialect.startswith("openai"):
        table.problem("api_version", "is for an API of OpenAI's on Azure; leave it out, or say wire_format")
    for key in ("usage_url", "check_url"):
        _check_own_url(table, key, getattr(provider, key), provider.base_url)
    if provider.passthrough and not provider.is_at_vendor:
        hosts = " or ".join(provider.vendor_hosts)
        table.problem(
            "passthrough", f"is for the vendor's own hosts ({hosts}): a client's credential goes to no other vendor's"
        )


def _key_shape(base_url: str) -> str | None:
    """Give the form of API keys at a known vendor's host, whatever the provider is called here."""
    if on_host(base_url, _VENDOR_HOSTS):
        return _VENDOR_KEY
    return next((one.key_shape for one in presets().values() if on_host(base_url, one.hosts)), None)


def _preset(name: str | None) -> Provider | None:
    preset = presets().get(_FORMER_TYPES.get(name or "", name or ""))
    return None if preset is None else preset.provider


def _accounts(table: Table, accounts: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Read `accounts`, or its older spelling `oauth_provider = NAME` for exactly one."""
    alias = table.get(_OAUTH_PROVIDER, None) if table.ignore(_OAUTH_PROVIDER.name) else None
    if alias is None:
        return accounts
    if "accounts" in table:
        table.problem("oauth_provider", "and accounts say the same thing; keep one of them")
    return (alias,)


def _base_url(url: str, wire_format: str) -> str:
    """Give the URL without `/v1` and the like, which other programs' settings include."""
    base_url = url.rstrip("/")
    return _API_PATH.sub("", base_url) if wire_format == "anthropic" else base_url


def _check_own_url(table: Table, key: str, template: str | None, base_url: str) -> None:
    """Check that `{base_url}` leads to the provider's own host, since the credential is sent there."""
    if template is None:
        return
    url = template.replace("{base_url}", base_url)
    if fault := url_fault(url):
        table.problem(key, fault)
    elif urlsplit(url).netloc.lower() != urlsplit(base_url).netloc.lower():
        table.problem(key, "must be on the host of base_url, for the credential is sent to it")


def _endpoints(declared: Table, default: OAuthEndpoints, base_url: str) -> OAuthEndpoints:
    table = declared.table("oauth")
    table.former(table, "token_url", "token_endpoint")
    enterprise = table.get(ENTERPRISE_URL, None)
    is_typed = any(getattr(default, key) for key in _ENTERPRISES)
    if enterprise is not None and not is_typed and not any(key in table for key in _ENTERPRISES):
        table.problem("enterprise_url", "moves the endpoints of a provider_type, and this one has none; declare them")
    if enterprise is not None and is_typed:
        default = _at_enterprise(default, enterprise.rstrip("/"))
    # What takes JSON instead of the standard's form is declared; a server that is known by its metadata is standard.
    if "issuer" in table and default.token_endpoint is None:
        default = replace(default, token_body="form")  # noqa: S106  # an encoding, no password
    endpoints = table.read(default)
    exchange = _token_exchange(declared.table("token_exchange"), default.token_exchange, base_url)
    endpoints = replace(endpoints, token_exchange=exchange)
    if enterprise is not None and not is_typed:
        endpoints = _at_enterprise(endpoints, enterprise.rstrip("/"))
    for key, says in _SAYS.items():
        if reserved := sorted({name for name, _ in getattr(endpoints, key)} & _RESERVED):
            table.problem(key, f"must not hold {', '.join(reserved)}, which {says} itself says")
    headers = _headers(table, "federation_headers", endpoints.federation_headers, _OWN_HEADERS)
    endpoints = replace(endpoints, federation_headers=headers)
    for key in _URLS:
        url = getattr(endpoints.at(base_url), key)
        if url and (fault := url_fault(url)):
            table.problem(key, fault)
    if endpoints.loopback_redirect and not _is_loopback_redirect(endpoints.loopback_redirect):
        table.problem("loopback_redirect", "must be like http://localhost:{port}/callback: an address on this machine")
    table.done()
    return endpoints


def _at_enterprise(endpoints: OAuthEndpoints, enterprise: str) -> OAuthEndpoints:
    """Give the endpoints at an enterprise's own host, with the same paths.

    An exchange at the host of the logins, or below it, moves with them.
    """

    def moved(url: str | None) -> str | None:
        if url is None:
            return None
        path = url.removeprefix("{base_url}")
        return enterprise + (path if path != url else urlsplit(url).path)

    urls: dict[str, Any] = {key: moved(getattr(endpoints, key)) for key in _ENTERPRISES}
    exchange, old = endpoints.token_exchange, urlsplit(endpoints.token_endpoint or "").netloc
    if (
        exchange is not None
        and old
        and on_host(exchange.url, (urlsplit(endpoints.token_endpoint or "").hostname or "",))
    ):
        parts, to = urlsplit(exchange.url or ""), urlsplit(enterprise)
        place = parts.netloc.removesuffix(old) + to.netloc
        exchange = replace(exchange, url=f"{to.scheme}://{place}{parts.path}")
    return replace(endpoints, **urls, token_exchange=exchange)


def _token_exchange(table: Table, default: TokenExchange | None, base_url: str) -> TokenExchange | None:
    """Read `[providers.token_exchange]`; None if it is missing."""
    exchange = table.read(default or TokenExchange())
    if default is None and not table.names():
        return None
    for key in ("headers", "parameters"):
        for name, value in getattr(exchange, key):
            if not _HEADER_VALUE.fullmatch(value) or (key == "headers" and not _HEADER_NAME.fullmatch(name)):
                table.problem(key, f"must not hold {name!r}, or its value can't be sent")
    if disguise := [name for name, _ in exchange.headers if name.lower() in _NOT_DECLARED]:
        table.problem(
            "headers", f"must not hold {disguise[0]}: tokenferry says that itself, and poses as no other client"
        )
    if exchange.method == "GET" and exchange.parameters:
        table.problem("parameters", 'are of a POST; put {token} into headers, or say method = "POST"')
    if not any(SUBJECT in value for _, value in (*exchange.headers, *exchange.parameters)):
        table.problem("headers", f"must hold {SUBJECT} where the long-lived token goes, or parameters must")
    if (fault := url_fault((exchange.url or "").replace("{base_url}", base_url))) is not None:
        table.problem("url", fault if exchange.url else "is missing: where the token is exchanged")
    if (exchange.endpoint_field is None) != (not exchange.endpoint_hosts):
        table.problem("endpoint_hosts", "and endpoint_field go together: which hosts an answer may name")
    table.done()
    return replace(exchange, headers=tuple((name.lower(), value) for name, value in exchange.headers))


def _headers(
    table: Table, key: str, headers: tuple[tuple[str, str], ...], own: Container[str]
) -> tuple[tuple[str, str], ...]:
    for name, value in headers:
        if not _HEADER_NAME.fullmatch(name) or name.lower() in own or not _HEADER_VALUE.fullmatch(value):
            table.problem(key, f"must not hold {name!r}, or its value can be in no header")
    return tuple((name.lower(), value) for name, value in headers)


def _is_loopback_redirect(template: str) -> bool:
    url = template.replace("{port}", "1")
    if url_fault(url) is not None:
        return False
    parts = urlsplit(url)
    return parts.scheme == "http" and is_loopback(parts.hostname) and parts.port is not None and parts.path != ""
