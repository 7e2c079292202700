"""Checks host, origin, content type and client key before anything is read or sent."""

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Final

from tokenferry.credentials import CLIENT_KEY_PREFIXES
from tokenferry.gateway.auth.dashboard_guard import DashboardGuard
from tokenferry.gateway.auth.key_lookup import KeyLookup
from tokenferry.gateway.auth.rate_limit import BAD_KEYS_PER_MINUTE, BadKeys
from tokenferry.gateway.auth.trusted_proxies import TrustedProxies
from tokenferry.gateway.http.errors import GatewayError
from tokenferry.gateway.http.request_head import RequestHead
from tokenferry.gateway.proxy.credentials import KeyRing
from tokenferry.providers import is_loopback
from tokenferry.state import KEY_LENGTH, ClientKey, Role, is_local_key

Header = tuple[bytes, bytes]

_DEFAULT_PORTS: Final = (80, 443)
_OWN_NAMES: Final = ("127.0.0.1", "localhost", "[::1]")
# JSON in UTF-8, unambiguously: a parameter that begins with `charset` must be exactly that.
_JSON_TYPE: Final = re.compile(
    rb"""
    [ \t]*+ (?: application | text ) / (?: [a-z0-9.!#$&^_-]++ \+ )? json [ \t]*+
    (?: ; [ \t]*+ (?:
        charset = (?: utf-?8 | "utf-?8" )
        | (?! charset ) [a-z0-9!#$&^_.*-]++ = (?: [a-z0-9!#$&^_.+-]++ | "[^"\\]*+" )
    )? [ \t]*+ )*+
    """,
    re.VERBOSE | re.IGNORECASE,
)
_KEY_HEADERS: Final = frozenset((b"x-api-key", b"x-goog-api-key"))
_NO_CODINGS: Final = (b"", b"identity")
_SEND_JSON: Final = "send JSON in UTF-8, with one header content-type: application/json"
_OWN_SITES: Final = frozenset((b"same-origin", b"none"))
_JSON: Final = b"application/json"
_CLIENTS: Final[Sequence[Role]] = ("client",)
# Fetch Metadata of a navigation by a person.
_NAVIGATION: Final = {b"sec-fetch-mode": b"navigate", b"sec-fetch-dest": b"document"}
_NO_NAVIGATION: Final = frozenset((b"origin", b"purpose", b"sec-purpose"))
_KEY_IN_QUERY: Final = re.compile(
    rb"[?&](?:(?:x[-_])?(?:goog[-_])?(?:api[-_]?)?key|access_token)=|=(?:tf[ka]_|sk-)", re.IGNORECASE
)
_SECRET_PREFIXES: Final = ("sk-ant-",)
_STORE_RETRY: Final = 5
_LOOK_SECONDS: Final = 1.0
"""Longer than a look for a key takes on its loop."""
_HOW: Final[Mapping[Role, str]] = MappingProxyType(
    {
        "client": "make one with: tokenferry key create NAME; or use this machine's own: tokenferry token --gateway",
        "admin": "make an admin key with: tokenferry key create NAME --role admin",
        "viewer": "make one that reads with: tokenferry key create NAME --role viewer",
        "metrics": "make one for it with: tokenferry key create NAME --role metrics",
    }
)
_OPENS: Final[Mapping[Role, str]] = MappingProxyType(
    {
        "client": "a client key, which opens inference",
        "admin": "an admin key, which opens the admin API",
        "viewer": "a viewer key, which reads the admin API and /metrics",
        "metrics": "a metrics key, which opens /metrics",
    }
)


def own_hosts(host: str, port: int, allowed: Sequence[str]) -> frozenset[bytes]:
    """Give the `Host` values that a listener accepts, in lower case."""
    shown = f"[{host}]" if ":" in host else host
    names = {*_OWN_NAMES, shown, *allowed}
    hosts = {f"{name}:{port}" for name in names} | set(allowed)
    if port in _DEFAULT_PORTS:
        hosts |= names
    return frozenset(name.lower().encode("utf-8") for name in hosts)


@lru_cache(maxsize=64)  # successes only: exceptions are not cached
def check_query(target: bytes) -> None:
    """Raise `GatewayError` for a key in the query, since proxies log it. The error doesn't repeat the key."""
    if _KEY_IN_QUERY.search(target):
        raise GatewayError(
            401,
            "authentication_error",
            "a key in the address is refused, since addresses are logged; send it as a Bearer token in authorization, "
            "or in x-api-key, and make a new key, since this one may have been logged",
            cause="key_in_query",
        )


class UnknownKey(GatewayError):  # noqa: N818  # named like its base
    """An unknown client key, which another host may have made: see `Guard.look_up`."""


class Guard:
    """Raises a `GatewayError` for every request that is not allowed."""

    def __init__(
        self,
        keys: KeyRing,
        hosts: frozenset[bytes],
        *,
        bad_keys: BadKeys | None = None,
        proxies: TrustedProxies | None = None,
        dashboard: DashboardGuard | None = None,
        open_at: str | None = None,
        look: Callable[[], object] | None = None,
    ) -> None:
        """`open_at` is the address at which other machines reach it, None for none.

        `look` reads the keys that other hosts have made; None without other hosts. It may block.
        """
        self._lookup = None if look is None else KeyLookup(look)
        self._keys = keys
        self._bad_keys = bad_keys or BadKeys()
        self._open_at = open_at
        self.answer_to(hosts, proxies, dashboard)

    def answer_to(
        self,
        hosts: frozenset[bytes],
        proxies: TrustedProxies | None = None,
        dashboard: DashboardGuard | None = None,
    ) -> None:
        """Use these `Host` values, trusted proxies and dashboard."""
        self.dashboard = dashboard
        self._proxies = proxies or TrustedProxies()
        self._hosts = hosts
        self._origins = frozenset(scheme + host for host in hosts for scheme in (b"http://", b"https://"))

    def check_source(self, headers: Sequence[Header], *, on_unix_socket: bool = False) -> None:
        """Refuse requests that a web page could have sent: to another host's name (DNS rebinding) or from another site.

        The Host of requests on a Unix socket is not checked, since no page can reach it.
        """
        self._check_host(headers, on_unix_socket=on_unix_socket)
        origins = [value for name, value in headers if name == b"origin"]
        self._check_page(origins, [value for name, value in headers if name == b"sec-fetch-site"])

    def check_navigation(self, headers: Sequence[Header], *, on_unix_socket: bool = False) -> None:
        """Refuse anything but a person's navigation: another host's name, or an image, frame or script of a page.

        The navigation may come from any site, since providers redirect back.
        """
        self._check_host(headers, on_unix_socket=on_unix_socket)
        self.check_person(headers)

    def check_person(self, headers: Sequence[Header]) -> None:
        """Refuse a request for an image, frame or script of a page."""
        for name, value in headers:
            if name in _NO_NAVIGATION or _NAVIGATION.get(name, value) != value:
                raise GatewayError(403, "permission_error", "this address must be opened by a person in a browser")

    def _check_host(self, headers: Sequence[Header], *, on_unix_socket: bool) -> None:
        self._check_hosts([value for name, value in headers if name == b"host"], on_unix_socket=on_unix_socket)

    def _check_hosts(self, hosts: Sequence[bytes], *, on_unix_socket: bool) -> None:
        if len(hosts) != 1:
            raise GatewayError(400, "invalid_request_error", "the request must have exactly one Host header")
        if not on_unix_socket and hosts[0].lower() not in self._hosts:
            raise GatewayError(
                421,
                "invalid_request_error",
                "this gateway does not answer to that Host; call it by the address it listens on, or add the name to "
                "allowed_hosts under [server] in config.toml",
            )

    def _check_page(self, origins: Iterable[bytes], sites: Iterable[bytes]) -> None:
        if any(origin.lower() not in self._origins for origin in origins) or any(
            site.lower() not in _OWN_SITES for site in sites
        ):
            raise GatewayError(403, "permission_error", "web pages of other sites may not call this gateway")

    def admit(self, head: RequestHead, address: str | None, *, has_body: bool) -> ClientKey:
        """Check an inference request, and give the client key: `check_source`, the body's type, and `check_key`.

        A body type is refused if the upstream might read it differently than as JSON in UTF-8, or if a page can send it
        across sites without a preflight. With a key in `x-tokenferry-key`, the other headers hold the client's own
        credential.
        """
        if len(head.hosts) != 1 or head.hosts[0] not in self._hosts:
            self._check_hosts(head.hosts, on_unix_socket=address is None)
        if head.origins or head.sites:
            self._check_page(head.origins, head.sites)
        if has_body:
            if len(head.content_types) > 1 or not all(map(_is_json, head.content_types)):
                raise GatewayError(415, "invalid_request_error", _SEND_JSON)
            if head.body_codings and any(one.strip().lower() not in _NO_CODINGS for one in head.body_codings):
                message = "send the body without content-encoding; a compressed body can't be routed"
                raise GatewayError(415, "invalid_request_error", message)
        headers = head.keys or head.credentials
        if head.presented is None:
            head.presented = _presented(headers)
        return self._check_presented(head.presented, headers, address, head.forwarded, _CLIENTS)

    def check_json(self, headers: Sequence[Header]) -> None:
        """Refuse every body and content type but JSON."""
        kinds = [value.partition(b";")[0].strip().lower() for name, value in headers if name == b"content-type"]
        has_body = any(
            name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0")) for name, value in headers
        )
        if any(kind != _JSON for kind in kinds) or (has_body and not kinds):
            raise GatewayError(415, "invalid_request_error", "send JSON, with content-type: application/json")

    def check_key(
        self,
        headers: Sequence[Header],
        address: str | None,
        *,
        roles: Sequence[Role] = _CLIENTS,
    ) -> ClientKey:
        """Give the presented client key, from the first header with a key of one of these roles.

        `address` is the peer's, None over a Unix socket. Bad keys are counted by the client's address; good ones always
        pass.
        """
        forwarded = [value for name, value in headers if name == b"x-forwarded-for"]
        return self._check_presented(_presented(headers), headers, address, forwarded, roles)

    def _check_presented(
        self,
        presented: Sequence[str],
        headers: Sequence[Header],
        address: str | None,
        forwarded: Sequence[bytes],
        roles: Sequence[Role],
    ) -> ClientKey:
        how = _HOW[roles[-1]]
        other = key = None
        value = ""
        for value in presented:
            key = self._keys.verify(value)
            if key is not None and key.role in roles:
                if self._open_at is not None and is_local_key(key) and not self._is_local(address, forwarded):
                    break
                return key
            other = other or key
        if key is not None and key.role in roles:
            message = f"client key {key.name} works only on this machine; {how}"
            error = GatewayError(403, "permission_error", message, cause="local_key")
        elif other is not None:
            error = GatewayError(
                403, "permission_error", f"{other.name} is {_OPENS[other.role]} and nothing else; {how}"
            )
        elif self._keys.is_away() and any(value.startswith(CLIENT_KEY_PREFIXES) for value in presented):
            error = store_away()
        elif presented and (wait := self._bad_keys.count(self._proxies.client(address, forwarded))):
            error = _too_many(wait, how)
        elif expired := next(filter(None, map(self._keys.expired, presented)), None):
            error = _expired(expired, how)
        else:
            may_be_new = self._lookup is not None and any(map(_is_well_formed, presented))
            error = _unauthorized(headers, presented, how, kind=UnknownKey if may_be_new else GatewayError)
        del presented, value  # a traceback shows locals
        raise error

    async def look_up(self, refusal: UnknownKey, headers: Sequence[Header]) -> None:
        """Look up a refused key in the database, for at most 250 ms. Concurrent callers share one query.

        Return if the key is known now. Raises the refusal if it isn't, and a 503 if the database didn't answer.
        """
        assert self._lookup is not None
        if not await self._lookup():
            raise store_away()
        if not any(self._keys.verify(value) for value in _presented(headers)):
            raise refusal

    def check_typed_key(
        self, headers: Sequence[Header], address: str | None, loop: asyncio.AbstractEventLoop, typed: str
    ) -> ClientKey:
        """Give the client key that a person typed to sign in. A bad one is counted.

        Call it on another thread than the loop's, since it waits while an unknown key is looked up.
        """
        presented = [(b"x-api-key", typed.strip().encode("utf-8"))]
        presented += [(name, value) for name, value in headers if name == b"x-forwarded-for"]
        check = partial(self.check_key, presented, address, roles=("client", "viewer", "admin"))
        try:
            return check()
        except UnknownKey as refusal:
            try:
                asyncio.run_coroutine_threadsafe(self.look_up(refusal, presented), loop).result(_LOOK_SECONDS)
            except TimeoutError:  # the loop has ended
                raise store_away() from None
            return check()

    def user_of_proxy(self, headers: Sequence[Header], address: str | None, user_header: bytes) -> str | None:
        """Give the user that a trusted proxy names; None if it names none or several, or isn't trusted."""
        if not self._proxies.trusts(address):
            return None
        users = [value.decode("utf-8", "replace").strip() for name, value in headers if name == user_header]
        return users[0] if len(users) == 1 and users[0] else None

    def _is_local(self, address: str | None, forwarded: Sequence[bytes]) -> bool:
        """Whether the client and all proxies before it are on this machine."""
        chain = self._proxies.chain(address, forwarded)
        return all(one is None or one == self._open_at or is_loopback(one) for one in chain)


@lru_cache(maxsize=64)
def _is_json(content_type: bytes) -> bool:
    return _JSON_TYPE.fullmatch(content_type) is not None


def _is_well_formed(presented: str) -> bool:
    return len(presented) == KEY_LENGTH and presented.startswith(CLIENT_KEY_PREFIXES)


def _presented(headers: Sequence[Header]) -> list[str]:
    values = []
    for name, value in headers:
        if name == b"authorization":
            scheme, _, token = value.partition(b" ")
            if scheme.lower() == b"bearer" and token.strip():
                values.append(token.strip().decode("latin-1"))
        elif name in _KEY_HEADERS and value.strip():
            values.append(value.strip().decode("latin-1"))
    return values


def _expired(key: ClientKey, how: str) -> GatewayError:
    moment = datetime.fromtimestamp(key.expires_at or 0, UTC)
    reason = f"client key {key.name} expired on {moment:%Y-%m-%d at %H:%M:%S} UTC"
    return GatewayError(401, "authentication_error", f"{reason}; {how}", cause="key_expired")


def _too_many(wait: int, how: str) -> GatewayError:
    return GatewayError(
        429,
        "rate_limit_error",
        f"more than {BAD_KEYS_PER_MINUTE} bad client keys a minute came from this address; good keys still pass; {how}",
        retry_after=wait,
        cause="too_many_bad_keys",
    )


def store_away(what: str = "client keys can't be looked up") -> GatewayError:
    """Give the error for requests while the database is unavailable. `what` says what needs it."""
    return GatewayError(
        503,
        "api_error",
        f"{what}, because this gateway's database is unavailable; try again soon "
        "(for its operator: tokenferry store status)",
        retry_after=_STORE_RETRY,
        cause="store_away",
    )


def _unauthorized(
    headers: Sequence[Header], presented: Sequence[str], how: str, *, kind: type[GatewayError]
) -> GatewayError:
    if any(value.startswith(_SECRET_PREFIXES) for value in presented):
        reason = "this gateway accepts only its own client keys, not a vendor's key or token"
    elif presented:
        reason = "this is not a client key of this gateway, or it was revoked"
    elif any(name == b"authorization" and value.strip().lower() == b"bearer" for name, value in headers):
        reason = "the client key is empty: your apiKeyHelper printed nothing; run it by hand to see why"
    else:
        reason = "a client key is needed, as a Bearer token, in x-api-key or in x-goog-api-key"
    return kind(401, "authentication_error", f"{reason}; {how}")
