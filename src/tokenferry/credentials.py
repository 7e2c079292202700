"""The kinds of credential, their request headers, and their form in JSON."""

from typing import Any, ClassVar, Final, Literal, TypeAlias

from msgspec import Struct, field

from tokenferry.anthropic_beta import OAUTH_BETA
from tokenferry.errors import UsageError
from tokenferry.secret import Fields, Secret

__all__ = [
    "API_KEY_PREFIX",
    "SETUP_TOKEN_PREFIX",
    "SETUP_TOKEN_SHAPE",
    "ApiKey",
    "Credential",
    "ExchangedToken",
    "FederatedToken",
    "Federation",
    "KeyHeader",
    "Kind",
    "OAuthToken",
    "SetupToken",
    "credential_from_json",
    "epoch_seconds",
]

Kind: TypeAlias = Literal["api-key", "setup-token", "oauth", "federated", "exchanged"]
KeyHeader: TypeAlias = Literal["x-api-key", "authorization", "api-key", "x-goog-api-key"]

SETUP_TOKEN_PREFIX: Final = "sk-ant-oat01-"  # noqa: S105  # a prefix, not a token
API_KEY_PREFIX: Final = "sk-ant-api"
CLIENT_KEY_PREFIXES: Final = ("tfk_", "tfa_", "tfv_", "tfm_")
"""Prefixes of the gateway's own keys: inference, admin, viewer and metrics."""
_SETUP_TOKEN_LENGTH: Final = 80
SETUP_TOKEN_SHAPE: Final = rf"{SETUP_TOKEN_PREFIX}[A-Za-z0-9_-]{{{_SETUP_TOKEN_LENGTH - len(SETUP_TOKEN_PREFIX)},}}"

_LATEST: Final = 4_102_444_800  # 2100-01-01: a larger number is not a time in seconds
_MILLISECONDS_FROM: Final = 10_000_000_000


def epoch_seconds(value: object, *, foreign: bool = False) -> int:
    """Read a time as integer seconds since 1970 UTC.

    In a `foreign` file a number above 1e10 is in milliseconds. Raises `UsageError` for other times after 2100, for
    negative numbers, and for values that are not numbers.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:  # noqa: PLR0124  # NaN
        del value  # a traceback shows locals, and the value may be a misplaced token
        raise UsageError("a time must be a number of seconds since 1970")
    if foreign and value > _MILLISECONDS_FROM:
        value //= 1000
    if not 0 <= value <= _LATEST:
        raise UsageError("a time must lie between 1970 and 2100, in seconds; milliseconds are a unit mistake")
    return int(value)


class ApiKey(Struct, frozen=True):
    """A key that never expires. `obtained_at` is in seconds since 1970 UTC.

    `header` is the header that its provider reads; in `authorization` the key is a Bearer token. It isn't stored:
    `Broker.resolve` sets it from the provider's `key_header`.
    """

    kind: ClassVar[Kind] = "api-key"
    expires_at: ClassVar[None] = None
    endpoint: ClassVar[None] = None

    secret: Secret
    unknown: Fields = field(default_factory=Fields)
    obtained_at: int | None = None
    header: KeyHeader = "x-api-key"
    until: float | None = None
    """When a fetched key must be fetched again, in seconds since 1970 UTC; None for a stored one."""

    def __eq__(self, other: object) -> bool:
        """Whether it is the same key, whatever its source."""
        return isinstance(other, ApiKey) and (self.secret, self.unknown) == (other.secret, other.unknown)

    def __hash__(self) -> int:
        return hash(self.secret)

    def headers(self) -> tuple[tuple[str, str], ...]:
        """Give the request headers that present the credential, secrets revealed."""
        key = self.secret.reveal()
        return ((self.header, f"Bearer {key}" if self.header == "authorization" else key),)

    def to_json(self) -> Fields:
        """Give its fields in a document, secrets revealed."""
        return Fields(self.unknown, key=self.secret.reveal(), **_present({"obtained_at": self.obtained_at}))


class SetupToken(Struct, frozen=True):
    """A subscription token for inference that is valid for a year and can't be renewed."""

    kind: ClassVar[Kind] = "setup-token"
    endpoint: ClassVar[None] = None

    secret: Secret
    obtained_at: int | None = None
    expires_at: int | None = None
    unknown: Fields = field(default_factory=Fields)

    def __hash__(self) -> int:
        return hash(self.secret)

    def __post_init__(self) -> None:
        value_is_good = self.secret.reveal().startswith(SETUP_TOKEN_PREFIX)
        if not value_is_good or len(self.secret.reveal()) < _SETUP_TOKEN_LENGTH:
            raise UsageError(
                f"a setup token starts with {SETUP_TOKEN_PREFIX} and has at least {_SETUP_TOKEN_LENGTH} characters; "
                "make one with `claude setup-token` and paste all of it"
            )

    def headers(self) -> tuple[tuple[str, str], ...]:
        """Give the request headers that present the credential, secrets revealed."""
        return _bearer(self.secret)

    def to_json(self) -> Fields:
        """Give its fields in a document, secrets revealed."""
        times = {"obtained_at": self.obtained_at, "expires_at": self.expires_at}
        return Fields(self.unknown, token=self.secret.reveal(), **_present(times))


class OAuthToken(Struct, frozen=True):
    """An access token, and its refresh token if there is one.

    Times are in seconds since 1970 UTC. `lifetime` is the granted lifetime of the access token in seconds.
    """

    kind: ClassVar[Kind] = "oauth"
    endpoint: ClassVar[str | None] = None
    """The base URL for its requests, in place of the provider's."""
    is_exchanged: ClassVar[bool] = False
    """Whether it was obtained by an exchange that can be repeated."""

    secret: Secret
    refresh: Secret | None = None
    expires_at: int | None = None
    scopes: tuple[str, ...] = ()
    subscription_type: str | None = None
    rate_limit_tier: str | None = None
    email: str | None = None
    account_id: str | None = None
    organization_id: str | None = None
    obtained_at: int | None = None
    lifetime: int | None = None
    refresh_expires_at: int | None = None
    source: str | None = None
    unknown: Fields = field(default_factory=Fields)

    def __hash__(self) -> int:
        return hash(self.secret)

    @property
    def is_renewable(self) -> bool:
        """Whether the stored document suffices to obtain another access token."""
        return self.refresh is not None

    def headers(self) -> tuple[tuple[str, str], ...]:
        """Give the request headers that present the credential, secrets revealed."""
        return _bearer(self.secret)

    def to_json(self) -> Fields:
        """Give its fields in a document, secrets revealed."""
        tokens = Fields(access_token=self.secret.reveal(), refresh_token=self.refresh and self.refresh.reveal())
        plain = {name: getattr(self, name) for name in (*_OAUTH_TEXTS, *_OAUTH_TIMES, "lifetime")}
        scopes = {"scopes": list(self.scopes)} if self.scopes else {}
        return Fields(self.unknown, **_present(tokens), **_present(plain), **scopes)


class Federation(Struct, frozen=True):
    """The source of a workload's identity token, and the `parameters` of its exchange.

    The token is read for each exchange, from a file or an environment variable. Raises `UsageError` unless exactly one
    of the two is given.
    """

    file: str | None = None
    variable: str | None = None
    parameters: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if bool(self.file) == bool(self.variable):
            raise UsageError("an identity token is read from a file or a variable; name exactly one of them")

    @property
    def source(self) -> str:
        """The source of the identity token, for people."""
        return f"file {self.file}" if self.file else f"variable {self.variable}"


class FederatedToken(OAuthToken, frozen=True, kw_only=True):
    """An access token that a workload obtained for its identity token (RFC 7523).

    It has no refresh token. The exchange renews it, and can be repeated after a failure.
    """

    kind: ClassVar[Kind] = "federated"
    is_exchanged: ClassVar[bool] = True

    federation: Federation

    @classmethod
    def of(cls, token: OAuthToken, federation: Federation) -> "FederatedToken":
        """Make a federated token from a token of this federation, without its refresh token."""
        known = {name: getattr(token, name) for name in OAuthToken.__struct_fields__}
        return cls(**(known | {"refresh": None}), federation=federation)

    @property
    def is_renewable(self) -> bool:
        return True

    def to_json(self) -> Fields:
        """Give its fields in a document, secrets revealed."""
        source = {"identity_token_file": self.federation.file, "identity_token_variable": self.federation.variable}
        parameters = {"federation": dict(self.federation.parameters) or None}
        return Fields(OAuthToken.to_json(self), **_present(source), **_present(parameters))


class ExchangedToken(OAuthToken, frozen=True, kw_only=True):
    """An API token that was exchanged for a long-lived token, the `subject`. The exchange renews it.

    `endpoint` is the base URL for its requests, if the answer named one.
    """

    kind: ClassVar[Kind] = "exchanged"
    is_exchanged: ClassVar[bool] = True

    subject: Secret
    endpoint: str | None = None  # type: ignore[misc]  # a class variable in the base

    @classmethod
    def of(cls, token: OAuthToken, subject: Secret, endpoint: str | None) -> "ExchangedToken":
        """Make an exchanged token from a token that was obtained for this subject token."""
        known = {name: getattr(token, name) for name in OAuthToken.__struct_fields__}
        return cls(**(known | {"refresh": None, "refresh_expires_at": None}), subject=subject, endpoint=endpoint)

    @property
    def is_renewable(self) -> bool:
        return True

    def headers(self) -> tuple[tuple[str, str], ...]:
        """Give the request headers that present the credential, secrets revealed."""
        return (("authorization", f"Bearer {self.secret.reveal()}"),)

    def to_json(self) -> Fields:
        """Give its fields in a document, secrets revealed."""
        place = _present({"endpoint": self.endpoint})
        return Fields(OAuthToken.to_json(self), subject_token=self.subject.reveal(), **place)


Credential: TypeAlias = ApiKey | SetupToken | OAuthToken | FederatedToken | ExchangedToken

_OAUTH_TEXTS: Final = (
    "subscription_type",
    "rate_limit_tier",
    "email",
    "account_id",
    "organization_id",
    "source",
)
_OAUTH_TIMES: Final = ("expires_at", "obtained_at", "refresh_expires_at")


def _bearer(secret: Secret) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {secret.reveal()}"), ("anthropic-beta", OAUTH_BETA))


def _present(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


def credential_from_json(kind: str, data: Fields) -> Credential:
    """Read the result of `to_json`. Raises `UsageError`, which names the field but not its value."""
    if kind == "api-key":
        return ApiKey(_secret(data, "key"), data.without("key", "obtained_at"), _time(data, "obtained_at"))
    if kind == "setup-token":
        times = {name: _time(data, name) for name in ("obtained_at", "expires_at")}
        return SetupToken(_secret(data, "token"), **times, unknown=data.without("token", *times))
    if kind == "federated":
        keys = ("identity_token_file", "identity_token_variable", "federation")
        # Without local variables, which a traceback would show if either is refused.
        return FederatedToken.of(
            _oauth(data.without(*keys)),
            Federation(_text(data, keys[0]), _text(data, keys[1]), _texts(data, keys[2])),
        )
    if kind == "exchanged":
        token = _oauth(data.without("subject_token", "endpoint"))
        return ExchangedToken.of(token, _secret(data, "subject_token"), _text(data, "endpoint"))
    if kind != "oauth":
        raise UsageError(f"a credential's kind is api-key, setup-token, oauth, federated or exchanged, not {kind!r}")
    return _oauth(data)


def _oauth(data: Fields) -> OAuthToken:
    known = {"access_token", "refresh_token", "scopes", "lifetime", *_OAUTH_TEXTS, *_OAUTH_TIMES}
    return OAuthToken(
        secret=_secret(data, "access_token"),
        refresh=_secret(data, "refresh_token") if data.get("refresh_token") not in (None, "") else None,
        scopes=_scopes(data.get("scopes")),
        lifetime=_time(data, "lifetime"),
        subscription_type=_text(data, "subscription_type"),
        rate_limit_tier=_text(data, "rate_limit_tier"),
        email=_text(data, "email"),
        account_id=_text(data, "account_id"),
        organization_id=_text(data, "organization_id"),
        source=_text(data, "source"),
        expires_at=_time(data, "expires_at"),
        obtained_at=_time(data, "obtained_at"),
        refresh_expires_at=_time(data, "refresh_expires_at"),
        unknown=data.without(*known),
    )


def _secret(data: Fields, name: str) -> Secret:
    if not isinstance(data.get(name), str):
        raise UsageError(f'"{name}" is missing or not a string')
    try:
        return Secret(data[name].strip())
    except ValueError as fault:
        raise UsageError(f'"{name}": {fault}') from None


def _text(data: Fields, name: str) -> str | None:
    if data.get(name) is not None and not isinstance(data[name], str):
        raise UsageError(f'"{name}" must be a string')
    return data.get(name)


def _texts(data: Fields, name: str) -> tuple[tuple[str, str], ...]:
    table = data.get(name, {})
    if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
        del table, data
        raise UsageError(f'"{name}" must hold only strings')
    return tuple(table.items())


def _time(data: Fields, name: str) -> int | None:
    try:
        return None if data.get(name) is None else epoch_seconds(data[name])
    except UsageError as fault:
        raise UsageError(f'"{name}": {fault}') from None


def _scopes(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str):
        return tuple(value.split())
    if isinstance(value, list) and all(isinstance(scope, str) for scope in value):
        return tuple(value)
    del value
    raise UsageError('"scopes" must be a list of strings')
