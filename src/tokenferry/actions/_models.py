"""What actions take and give. Secrets are taken as `Secret`, and none is given but a new key, once."""

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
    """A time in seconds since 1970 UTC as RFC 3339."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Refused(Struct, kw_only=True):
    """Every refusal: one sentence, with how to fix it."""

    success: bool = False
    message: str


class AuthorizeRequest(Struct, kw_only=True):
    """Where to log in. What isn't named here is ignored, a `redirect_uri` too."""

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
        Meta(description="The account's name if the browser brings the login home; by default the e-mail address."),
    ] = None


class AuthorizeAnswer(Struct, kw_only=True):
    """A login that waits to be finished."""

    url: Annotated[str, Meta(description="The provider's page, for any browser.")]
    state: Annotated[str, Meta(description="Comes back behind the `#` of the code.")]
    instructions: str
    expires_in: Annotated[int, Meta(description="Seconds until it is given up.")]
    verifier: Annotated[
        str,
        Meta(description="An opaque handle for clients that expect one; it is not the PKCE verifier."),
    ]
    login_url: Annotated[
        str | None,
        Meta(
            description="Where the redirect leads back to this gateway: opened instead of `url`, once, it lets the "
            "browser bring the login home."
        ),
    ] = None


class ExchangeRequest(Struct, kw_only=True):
    """The answer to a login. A `verifier` or `oauth_type` beside it is ignored: the server knows both."""

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
    """An account, without its secrets. Of one that can't be read only `name`, `state` and `fault` are known."""

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
    paused_until: Annotated[Moment | None, Meta(description="When the pause ends by itself.")] = None
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
        Meta(description="Who issued it; `anthropic` is known by an sk-ant-api key."),
    ] = None
    kind: Literal["api-key", "setup-token", "oauth"] | None = None
    key: Secret | None = None
    login: Annotated[
        dict[str, Any] | None,
        Meta(description="`access_token`, `refresh_token` and `expires_at` (seconds since 1970)."),
    ] = None
    replace: Annotated[bool, Meta(description="Put it in place of what the account holds.")] = False

    def __repr__(self) -> str:  # its login holds tokens
        return f"AccountRequest(name={self.name!r})"


class ApiKeyRequest(Struct, kw_only=True):
    """An API key to have made by an account's login."""

    name: Annotated[Name, Meta(description="The account that the key is stored as.")]


class AccountAdded(Done, kw_only=True):
    account: AccountInfo


class AccountRemoved(Done, kw_only=True):
    revoked: Annotated[bool, Meta(description="Whether its login was ended at its provider.")] = False
    still_valid: Annotated[str | None, Meta(description="Why its login could not be ended there.")] = None
    unserved_keys: Annotated[list[str], Meta(description="The client keys that no account serves now.")] = []


class AccountReplaced(AccountAdded, kw_only=True):
    """The account was there before."""


class AccountChange(Struct, kw_only=True):
    """What to change of an account; what isn't given stays."""

    priority: Annotated[int | None, Meta(description="Lower serves first.")] = None
    labels: Changed = {}
    paused: bool | None = None
    paused_until: Annotated[
        Annotated[datetime, Meta(tz=True)] | None, Meta(description="When a pause ends by itself, with `paused`.")
    ] = None
    max_age: Annotated[
        Annotated[int, Meta(ge=1, lt=4_102_444_800)] | UnsetType | None,
        Meta(description="How many seconds old its key or setup token may become; null lifts it."),
    ] = UNSET


class CooldownInfo(Struct, kw_only=True):
    """Why an account, organization or provider is passed over, and until when."""

    kind: Literal["account", "organization", "provider"]
    name: str
    family: Annotated[str | None, Meta(description="The models it is about; absent for all.")] = None
    cause: str
    source: str
    until: Annotated[Moment | None, Meta(description="Absent where no end is known.")] = None
    evidence: str
    noted_at: Moment


class WindowInfo(Struct, kw_only=True):
    name: str
    utilization: Annotated[float | None, Meta(description="The share that is used up, from 0 to 1.")] = None
    reset: Moment | None = None


class BucketInfo(Struct, kw_only=True):
    name: str
    limit: int | None = None
    remaining: int | None = None


class LimitInfo(Struct, kw_only=True):
    """What an account's provider said of its limits last, to the worker that answers."""

    account: str
    windows: list[WindowInfo]
    buckets: list[BucketInfo]


class KeyRights(Struct, kw_only=True):
    """What a client key may be used for; an empty list allows everything of its kind."""

    models: list[str] = []
    providers: list[str] = []
    accounts: list[str] = []
    pin: Annotated[str | None, Meta(description="The one account that serves it.")] = None


_Most: TypeAlias = Annotated[float, Meta(ge=0, le=10**12)]


class KeyLimits(Struct, kw_only=True):
    """How much may be asked for with a client key; null is no limit."""

    requests_per_minute: _Most | UnsetType | None = UNSET
    tokens_per_minute: Annotated[_Most | UnsetType | None, Meta(description="Input, cache writes and output.")] = UNSET
    max_concurrency: Annotated[
        Annotated[int, Meta(ge=0, le=10**12)] | UnsetType | None, Meta(description="Requests at a time.")
    ] = UNSET


class KeyRequest(KeyRights, kw_only=True):
    """A key to make. Admin keys are made by the command alone."""

    name: Name
    role: Literal["client", "viewer", "metrics", "admin"] = "client"
    labels: dict[str, str] = {}
    limits: KeyLimits = field(default_factory=KeyLimits)
    budgets: Annotated[list[str], Meta(description="How much it may use: 20usd/day, 1Mtokens/week.")] = []
    expires_in: Annotated[
        Annotated[int, Meta(gt=0, lt=4_102_444_800)] | None, Meta(description="Seconds; null for no end.")
    ] = None


class KeyChange(Struct, kw_only=True):
    """What to change of a key; what isn't given stays, and each list takes the place of the one before."""

    labels: Changed = {}
    models: list[str] | UnsetType | None = UNSET
    providers: list[str] | UnsetType | None = UNSET
    accounts: list[str] | UnsetType | None = UNSET
    pin: Annotated[str | UnsetType | None, Meta(description="Null lifts it.")] = UNSET
    limits: Annotated[KeyLimits | UnsetType, Meta(description="What isn't given stays; null lifts one.")] = UNSET
    budgets: Annotated[list[str] | UnsetType | None, Meta(description="20usd/day, 1Mtokens/week.")] = UNSET
    name: Annotated[Name | UnsetType, Meta(description="Another name; it stays the same key.")] = UNSET


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
    """What `tokenferry status` tells, from inside."""

    version: str
    listening: Annotated[list[str], Meta(description="Where this gateway listens.")]
    policy: PolicyInfo
    active: Annotated[str | None, Meta(description="The account in `use`.")] = None
    accounts: list[AccountInfo]
    cooldowns: list[CooldownInfo]
    limits: list[LimitInfo]
    logins: Annotated[list[str], Meta(description="The providers that `oauth_type` may name.")]
    refreshing: Annotated[list[str], Meta(description="Accounts whose refresh is in flight in this worker.")]
