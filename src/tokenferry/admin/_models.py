"""What the API takes and gives. Secrets are taken as `SecretStr`, and none is given."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
"""RFC 3339, in UTC."""

Name = Annotated[
    str,
    Field(
        min_length=1,
        max_length=64,
        description="An account's name: A-Z a-z 0-9 . _ @ + -, a letter or digit first.",
        examples=["work"],
    ),
]


def moment(seconds: int | None) -> str | None:
    """A time in seconds since 1970 UTC as RFC 3339."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Told(BaseModel):
    """Anything the API gives."""

    model_config = ConfigDict(extra="forbid")


class Refused(Told):
    """Every refusal: one sentence, with what mends it."""

    success: Literal[False] = False
    message: str


class AuthorizeRequest(BaseModel):
    """Where to log in. What isn't named here is ignored, a `redirect_uri` too."""

    oauth_type: Annotated[
        str,
        Field(
            min_length=1,
            max_length=64,
            description="`max` (a Claude subscription), `console`, or the name of a provider.",
            examples=["console"],
        ),
    ] = "max"
    provider_id: Annotated[
        Name | None,
        Field(description="The account's name if the browser brings the login home; by default the e-mail address."),
    ] = None


class AuthorizeAnswer(Told):
    """A login that waits to be finished."""

    url: Annotated[str, Field(description="The provider's page, for any browser.")]
    state: Annotated[str, Field(description="Comes back behind the `#` of the code.")]
    instructions: str
    expires_in: Annotated[int, Field(description="Seconds until it is given up.")]
    verifier: Annotated[
        str,
        Field(description="An opaque handle for clients that expect one; it is not the PKCE verifier."),
    ]
    login_url: Annotated[
        str | None,
        Field(
            description="Where the redirect leads back to this gateway: opened instead of `url`, once, it lets the "
            "browser bring the login home."
        ),
    ] = None


class ExchangeRequest(BaseModel):
    """The answer to a login. A `verifier` or `oauth_type` beside it is ignored: the server knows both."""

    code: Annotated[
        SecretStr, Field(min_length=1, max_length=16_384, description="`CODE#STATE`, or the address of the last page.")
    ]
    provider_id: Name


class TokenRef(BaseModel):
    provider_id: Name


class Done(Told):
    success: Literal[True] = True
    message: str


class TokenDone(Done):
    provider_id: str
    expires_at: Moment | None


class TokenInfo(Told):
    """An OAuth login."""

    provider_id: str
    expires_at: Moment | None
    is_expired: bool
    needs_refresh: Annotated[bool, Field(description="Whether it expires within five minutes.")]
    provider: str
    owner: Annotated[str, Field(description="Who refreshes it.")]
    state: Annotated[str, Field(description="As in `tokenferry account list`.")]
    fingerprint: Annotated[str, Field(description="8 hex digits of the access token's sha256.")]
    refresh_fingerprint: str | None


class AccountInfo(Told):
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
    labels: dict[str, str] = {}
    created_at: Moment | None = None
    fingerprint: str | None = None
    expires_at: Moment | None = None
    email: str | None = None


class AccountRequest(BaseModel):
    """A credential to store: an API key or setup token as `key`, or the tokens of an OAuth login as `login`."""

    name: Name
    provider: Annotated[
        str | None, Field(max_length=64, description="Who issued it; `anthropic` is known by an sk-ant-api key.")
    ] = None
    kind: Literal["api-key", "setup-token", "oauth"] | None = None
    key: Annotated[SecretStr | None, Field(max_length=16_384)] = None
    login: Annotated[
        dict[str, Any] | None,
        Field(repr=False, description="`access_token`, `refresh_token` and `expires_at` (seconds since 1970)."),
    ] = None
    replace: Annotated[bool, Field(description="Put it in place of what the account holds.")] = False


class AccountAdded(Done):
    account: AccountInfo


class AccountChange(BaseModel):
    """What to change of an account; what isn't given stays."""

    priority: Annotated[int | None, Field(description="Lower serves first.")] = None
    labels: Annotated[dict[str, str | None], Field(description="A label of null is removed.")] = {}
    paused: bool | None = None


class CooldownInfo(Told):
    """Why an account, organization or provider is passed over, and until when."""

    kind: Literal["account", "organization", "provider"]
    name: str
    family: Annotated[str | None, Field(description="The models it is about; absent for all.")] = None
    cause: str
    source: str
    until: Annotated[Moment | None, Field(description="Absent where no end is known.")] = None
    evidence: str
    noted_at: Moment


class WindowInfo(Told):
    name: str
    utilization: Annotated[float | None, Field(description="The share that is used up, from 0 to 1.")] = None
    reset: Moment | None = None


class BucketInfo(Told):
    name: str
    limit: int | None = None
    remaining: int | None = None


class LimitInfo(Told):
    """What an account's provider said of its limits last, to the worker that answers."""

    account: str
    windows: list[WindowInfo]
    buckets: list[BucketInfo]


class KeyRights(BaseModel):
    """What a client key may be used for; an empty list allows everything of its kind."""

    models: list[str] = []
    providers: list[str] = []
    accounts: list[str] = []
    pin: Annotated[str | None, Field(description="The one account that serves it.")] = None


class KeyRequest(KeyRights):
    """A key to make. Admin keys are made by the command alone."""

    name: Name
    role: Literal["client", "viewer", "metrics", "admin"] = "client"
    labels: dict[str, str] = {}
    expires_in: Annotated[int | None, Field(gt=0, lt=4_102_444_800, description="Seconds; null for no end.")] = None


class KeyChange(BaseModel):
    """What to change of a key; what isn't given stays, and each list takes the place of the one before."""

    labels: Annotated[dict[str, str | None], Field(description="A label of null is removed.")] = {}
    models: list[str] | None = None
    providers: list[str] | None = None
    accounts: list[str] | None = None
    pin: Annotated[str | None, Field(description="Null lifts it.")] = None


class KeyInfo(Told):
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


class KeyMade(Done):
    key: Annotated[str, Field(description="The key itself, given this once.")]
    info: KeyInfo


class KeyDone(Done):
    info: KeyInfo


class PolicyInfo(Told):
    subscriptions: Literal["claude-code-only", "own-use"]


class StatusInfo(Told):
    """What `tokenferry status` tells, from inside."""

    version: str
    listening: Annotated[list[str], Field(description="Where this gateway listens.")]
    policy: PolicyInfo
    active: Annotated[str | None, Field(description="The account in `use`.")] = None
    accounts: list[AccountInfo]
    cooldowns: list[CooldownInfo]
    limits: list[LimitInfo]
    logins: Annotated[list[str], Field(description="The providers that `oauth_type` may name.")]
    refreshing: Annotated[list[str], Field(description="Accounts whose refresh is in flight in this worker.")]
