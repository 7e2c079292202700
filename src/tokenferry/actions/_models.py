"""The inputs and answers of actions. Secrets come as `Secret`; no answer holds one but a new key's, once."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType, field

from tokenferry.secret import Secret

Moment: TypeAlias = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
"""RFC 3339, in UTC."""

Name: TypeAlias = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=64,
        description="An account's name: A-Z a-z 0-9 . _ @ + -, a letter or digit first.",
        examples=["work"],
    ),
]
Changed: TypeAlias = Annotated[dict[str, str | None], Meta(description="A label of null is removed.")]


def moment(seconds: int | None) -> str | None:
    """Format a time in seconds since 1970 UTC as RFC 3339."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Refused(Struct, kw_only=True):
    """Every refusal: one sentence, with how to fix it."""

    success: bool = False
    message: str


class AuthorizeRequest(Struct, kw_only=True):
    """Where to log in. Other fields are ignored, including `redirect_uri`."""

    oauth_type: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=64,
            description="`max` (a Claude subscription), `console`, or the name of a provider.",
            examples=["console"],
        ),
    ] = "max"
    provider_id: Annotated[
        Name | None,
        Meta(description="The account's name if the browser returns to the gateway; by default the e-mail address."),
    ] = None


class AuthorizeAnswer(Struct, kw_only=True):
    """A login to be finished."""

    url: Annotated[str, Meta(description="The provider's page, for any browser.")]
    state: Annotated[str, Meta(description="Follows the `#` in the code.")]
    instructions: str
    expires_in: Annotated[int, Meta(description="Seconds until it expires.")]
    verifier: Annotated[
        str,
        Meta(description="An opaque handle for clients that expect one; it is not the PKCE verifier."),
    ]
    login_url: Annotated[
        str | None,
        Meta(
            description="If the redirect returns to this gateway: open it instead of `url`, once, and the browser "
            "finishes the login."
        ),
    ] = None


class ExchangeRequest(Struct, kw_only=True):
    """The answer to a login. A `verifier` and an `oauth_type` are ignored: the server knows both."""

    code: Annotated[Secret, Meta(description="`CODE#STATE`, or the address of the last page.")]
    provider_id: Name


class TokenRef(Struct, kw_only=True):
    provider_id: Name


class Done(Struct, kw_only=True):
    success: bool = True
    message: str


class TokenDone(Done, kw_only=True):
    provider_id: str
    expires_at: Moment | None


class TokenInfo(Struct, kw_only=True):
    """An OAuth login."""

    provider_id: str
    expires_at: Moment | None
    is_expired: bool
    needs_refresh: Annotated[bool, Meta(description="Whether it expires within five minutes.")]
    provider: str
    owner: Annotated[str, Meta(description="Who refreshes it.")]
    state: Annotated[str, Meta(description="As in `tokenferry account list`.")]
    fingerprint: Annotated[str, Meta(description="8 hex digits of the access token's sha256.")]
    refresh_fingerprint: str | None


class AccountInfo(Struct, kw_only=True):
    """An account without its secrets. An unreadable one has only `name`, `state` and `fault`."""

    name: str
    state: str
    fault: str | None = None
    active: bool = False
    provider: str | None = None
    kind: str | None = None
    owner: str | None = None
    store: str | None = None
    priority: int | None = None
    paused: bool | None = None
    paused_until: Annotated[Moment | None, Meta(description="When the pause ends.")] = None
    labels: dict[str, str] = {}
    created_at: Moment | None = None
    fingerprint: str | None = None
    expires_at: Moment | None = None
    email: str | None = None


class AccountRequest(Struct, kw_only=True):
    """A credential to store: an API key or setup token as `key`, or the tokens of an OAuth login as `login`."""

    name: Name
    provider: Annotated[
        Annotated[str, Meta(max_length=64)] | None,
        Meta(description="The issuer; `anthropic` is recognised by an sk-ant-api key."),
    ] = None
    kind: Literal["api-key", "setup-token", "oauth"] | None = None
    key: Secret | None = None
    login: Annotated[
        dict[str, Any] | None,
        Meta(description="`access_token`, `refresh_token` and `expires_at` (seconds since 1970)."),
    ] = None
    replace: Annotated[bool, Meta(description="Replace the account's credential.")] = False

    def __repr__(self) -> str:  # its login holds tokens
        return f"AccountRequest(name={self.name!r})"


class ApiKeyRequest(Struct, kw_only=True):
    """An API key to create with an account's login."""

    name: Annotated[Name, Meta(description="The account that the key is stored as.")]


class AccountAdded(Done, kw_only=True):
    account: AccountInfo


class AccountRemoved(Done, kw_only=True):
    revoked: Annotated[bool, Meta(description="Whether its login was revoked at its provider.")] = False
    still_valid: Annotated[str | None, Meta(description="Why its login could not be revoked there.")] = None
    unserved_keys: Annotated[list[str], Meta(description="The client keys that no account serves now.")] = []
    default_provider: Annotated[str | None, Meta(description="The provider that became the default one by it.")] = None


class AccountReplaced(AccountAdded, kw_only=True):
    """The account existed before."""


class AccountChange(Struct, kw_only=True):
    """Changes of an account; omitted fields stay."""

    priority: Annotated[int | None, Meta(description="Lower serves first.")] = None
    labels: Changed = {}
    paused: bool | None = None
    paused_until: Annotated[
        Annotated[datetime, Meta(tz=True)] | None, Meta(description="When a pause ends, with `paused`.")
    ] = None
    max_age: Annotated[
        Annotated[int, Meta(ge=1, lt=4_102_444_800)] | UnsetType | None,
        Meta(description="The maximum age of its key or setup token in seconds; null removes it."),
    ] = UNSET


class CooldownInfo(Struct, kw_only=True):
    """Why an account, organization or provider is passed over, and until when."""

    kind: Literal["account", "organization", "provider"]
    name: str
    family: Annotated[str | None, Meta(description="The models it affects; absent for all.")] = None
    cause: str
    source: str
    until: Annotated[Moment | None, Meta(description="Absent if no end is known.")] = None
    evidence: str
    noted_at: Moment


class WindowInfo(Struct, kw_only=True):
    name: str
    utilization: Annotated[float | None, Meta(description="The used share, from 0 to 1.")] = None
    reset: Moment | None = None


class BucketInfo(Struct, kw_only=True):
    name: str
    limit: int | None = None
    remaining: int | None = None


class LimitInfo(Struct, kw_only=True):
    """The last limits that an account's provider reported to the answering worker."""

    account: str
    windows: list[WindowInfo]
    buckets: list[BucketInfo]


class KeyRights(Struct, kw_only=True):
    """The rights of a client key; an empty list allows everything of its kind."""

    models: list[str] = []
    providers: list[str] = []
    accounts: list[str] = []
    pin: Annotated[str | None, Meta(description="The one account that serves it.")] = None


_Most: TypeAlias = Annotated[float, Meta(ge=0, le=10**12)]


class KeyLimits(Struct, kw_only=True):
    """The limits of a client key; null is no limit."""

    requests_per_minute: _Most | UnsetType | None = UNSET
    tokens_per_minute: Annotated[_Most | UnsetType | None, Meta(description="Input, cache writes and output.")] = UNSET
    max_concurrency: Annotated[
        Annotated[int, Meta(ge=0, le=10**12)] | UnsetType | None, Meta(description="Concurrent requests.")
    ] = UNSET


class KeyRequest(KeyRights, kw_only=True):
    """A key to create. Only the command creates admin keys."""

    name: Name
    role: Literal["client", "viewer", "metrics", "admin"] = "client"
    labels: dict[str, str] = {}
    limits: KeyLimits = field(default_factory=KeyLimits)
    budgets: Annotated[list[str], Meta(description="How much it may use: 20usd/day, 1Mtokens/week.")] = []
    expires_in: Annotated[
        Annotated[int, Meta(gt=0, lt=4_102_444_800)] | None, Meta(description="Seconds; null for no end.")
    ] = None


class KeyChange(Struct, kw_only=True):
    """Changes of a key; omitted fields stay, and each list replaces the former one."""

    labels: Changed = {}
    models: list[str] | UnsetType | None = UNSET
    providers: list[str] | UnsetType | None = UNSET
    accounts: list[str] | UnsetType | None = UNSET
    pin: Annotated[str | UnsetType | None, Meta(description="Null lifts it.")] = UNSET
    limits: Annotated[KeyLimits | UnsetType, Meta(description="Omitted limits stay; null removes one.")] = UNSET
    budgets: Annotated[list[str] | UnsetType | None, Meta(description="20usd/day, 1Mtokens/week.")] = UNSET
    name: Annotated[Name | UnsetType, Meta(description="A new name for the same key.")] = UNSET


class KeyInfo(Struct, kw_only=True):
    """A key of the gateway, without its secret."""

    id: str
    name: str
    role: str
    state: Literal["live", "expired", "revoked", "damaged"]
    fingerprint: str
    created_at: Moment | None
    last_used_at: Moment | None
    expires_at: Moment | None
    revoked_at: Moment | None
    labels: dict[str, str]
    rights: KeyRights
    limits: KeyLimits
    budgets: list[str]


class KeyMade(Done, kw_only=True):
    key: Annotated[str, Meta(description="The key itself, given this once.")]
    info: KeyInfo

    def __repr__(self) -> str:
        return f"KeyMade(info={self.info!r})"


class KeyDone(Done, kw_only=True):
    info: KeyInfo


class PolicyInfo(Struct, kw_only=True):
    subscriptions: Literal["claude-code-only", "own-use"]


class StatusInfo(Struct, kw_only=True):
    """The gateway's own `tokenferry status`."""

    version: str
    listening: Annotated[list[str], Meta(description="Where this gateway listens.")]
    policy: PolicyInfo
    active: Annotated[str | None, Meta(description="The account in `use`.")] = None
    accounts: list[AccountInfo]
    cooldowns: list[CooldownInfo]
    limits: list[LimitInfo]
    logins: Annotated[list[str], Meta(description="The providers that `oauth_type` may name.")]
    refreshing: Annotated[list[str], Meta(description="Accounts whose refresh is in flight in this worker.")]
