"""The token, revocation and metadata endpoints (RFC 6749, 7009, 7636, 8414, 8628)."""

import base64
import binascii
import hashlib
import hmac
from typing import Any
from urllib.parse import unquote_plus

from tokenferry.anthropic_beta import OAUTH_BETA
from tokenferry.sandbox._accounts import ACCOUNTS, DEFAULT_SCOPES, SCOPES, SETUP_LIFETIME, SETUP_SCOPE, find
from tokenferry.sandbox._http import Answer, Request, json_answer
from tokenferry.sandbox._identity import identity_claims
from tokenferry.sandbox._ledger import Access, Family, Refresh
from tokenferry.sandbox._state import State

CONFIDENTIAL_CLIENT = "sandbox-confidential"
CONFIDENTIAL_SECRET = "sandbox-client-secret"  # noqa: S105  # published on purpose
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
FEDERATION_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
FEDERATION_BETA = "oidc-federation-2026-04-01"
NO_STORE = [("cache-control", "no-store"), ("pragma", "no-cache")]


class OAuthError(Exception):
    """An error answer of RFC 6749, section 5.2."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.error = error
        self.description = description
        self.status = status


def oauth_error_answer(error: OAuthError) -> Answer:
    headers = list(NO_STORE)
    if error.status == 401:  # noqa: PLR2004  # RFC 6749, 5.2
        headers.append(("www-authenticate", 'Basic realm="sandbox"'))
    return json_answer({"error": error.error, "error_description": error.description}, error.status, headers)


def parameters(request: Request) -> dict[str, Any]:
    """Read a body that is JSON or a form."""
    kind = request.header("content-type").partition(";")[0].strip().lower()
    if request.is_json:
        if not isinstance(request.json, dict):
            raise OAuthError("invalid_request", "The body is not a JSON object.")
        given = dict(request.json)
    elif kind == "application/x-www-form-urlencoded":
        given = dict(request.form)
        if len(given) != len(request.form):
            raise OAuthError("invalid_request", "A parameter is given twice.")
        if str(given.get("expires_in", "")).isdecimal():
            given["expires_in"] = int(given["expires_in"])
    else:
        raise OAuthError("invalid_request", "The body must be application/json or application/x-www-form-urlencoded.")
    for name, value in given.items():
        if not isinstance(value, int if name == "expires_in" else str):
            raise OAuthError("invalid_request", f"The parameter {name} has the wrong type.")
    return given


def client(request: Request, given: dict[str, Any]) -> str | None:
    """Authenticate the client. Any id but the confidential one is accepted as a public client."""
    identifier, secret = given.get("client_id"), given.get("client_secret", "")
    scheme, _, encoded = request.header("authorization").partition(" ")
    if scheme.lower() == "basic":
        try:
            user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise OAuthError("invalid_client", "The Basic credentials can't be read.", 401) from None
        basic = unquote_plus(user)
        if identifier not in {None, basic}:
            raise OAuthError("invalid_request", "client_id and the Basic credentials name different clients.")
        identifier, secret = basic, unquote_plus(password)
    if identifier == CONFIDENTIAL_CLIENT and not hmac.compare_digest(secret.encode(), CONFIDENTIAL_SECRET.encode()):
        raise OAuthError("invalid_client", "The client secret is wrong or missing.", 401)
    return identifier


def scopes_of(
    wanted: str, allowed: tuple[str, ...] = SCOPES, default: tuple[str, ...] = DEFAULT_SCOPES
) -> tuple[str, ...]:
    """The granted scopes of a `scope` parameter: the known ones."""
    asked = wanted.split()
    granted = tuple(scope for scope in allowed if scope in asked) if asked else default
    if not granted:
        raise OAuthError("invalid_scope", "None of the scopes asked for is known here.")
    return granted


def token(state: State, request: Request) -> Answer:
    """`POST /v1/oauth/token`."""
    given = parameters(request)
    client_id = client(request, given)
    grants = {
        "authorization_code": _code,
        "refresh_token": _refresh,
        DEVICE_GRANT: _device,
        FEDERATION_GRANT: _federate,
    }
    _check_betas(request, given.get("grant_type", ""))
    grant = grants.get(given.get("grant_type", ""))
    if "grant_type" not in given:
        raise OAuthError("invalid_request", "grant_type is missing.")
    if grant is None:
        raise OAuthError("unsupported_grant_type", "There is no such grant here.")
    access, refresh = grant(state, given, client_id)
    account = ACCOUNTS[access.family.account]
    state.counters.count(account.name, "grants")
    now = state.clock.now()
    document: dict[str, Any] = {
        "token_type": "Bearer",
        "access_token": access.token,
        "expires_in": round(access.expires_at - now),
        "scope": " ".join(access.scopes),
        "organization": {"uuid": account.organization_uuid, "name": account.organization_name},
        "account": {"uuid": account.uuid, "email_address": account.email},
    }
    if refresh is not None:
        document["refresh_token"] = refresh.token
        document["refresh_token_expires_in"] = round(refresh.expires_at - now)
    for name, value in state.settings[account.name].token_answer.items():
        document[name] = value
        if value is None:
            del document[name]
    return json_answer(document, headers=NO_STORE)


def _check_betas(request: Request, grant_type: str) -> None:
    """Require both for an identity token's exchange, and refuse the second elsewhere."""
    betas = {beta.strip() for beta in request.header("anthropic-beta").split(",")}
    if grant_type == FEDERATION_GRANT and not {OAUTH_BETA, FEDERATION_BETA} <= betas:
        raise OAuthError("invalid_request", f"anthropic-beta must hold {OAUTH_BETA} and {FEDERATION_BETA}.")
    if grant_type != FEDERATION_GRANT and FEDERATION_BETA in betas:
        raise OAuthError("invalid_request", f"{FEDERATION_BETA} goes with the jwt-bearer grant alone.")


def challenge_of(verifier: str) -> str:
    """The code_challenge of a code_verifier (RFC 7636, S256)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


def needed(given: dict[str, Any], name: str) -> str:
    value = given.get(name, "")
    if not value:
        raise OAuthError("invalid_request", f"{name} is missing.")
    return str(value)


def _code(state: State, given: dict[str, Any], client_id: str | None) -> tuple[Access, Refresh | None]:
    names = ("code", "redirect_uri", "code_verifier")
    presented, redirect_uri, verifier = (needed(given, name) for name in names)
    code = state.ledger.codes.get(presented)
    if code is None:
        raise OAuthError("invalid_grant", "The authorization code is unknown.")
    if code.used:
        if code.family is not None:
            state.revoke_family(code.family)
        raise OAuthError("invalid_grant", "The authorization code was used before; what it gave is revoked.")
    code.used = True
    challenge = challenge_of(verifier)
    faults = {
        "The authorization code has expired.": code.expires_at <= state.clock.now(),
        "The authorization code was given to another client.": client_id != code.client_id,
        "The redirect_uri is not the one of the authorization request.": redirect_uri != code.redirect_uri,
        "The state is not the one of the authorization request.": given.get("state", code.state) != code.state,
        "The code_verifier does not match the code_challenge.": not hmac.compare_digest(challenge, code.challenge),
    }
    for description, found in faults.items():
        if found:
            raise OAuthError("invalid_grant", description)
    lifetime = given.get("expires_in")
    code.family = Family(code.account, code.client_id, code.scopes)
    if lifetime is None:
        return _pair(state, code.family)
    if code.scopes != (SETUP_SCOPE,) or not 0 < lifetime <= SETUP_LIFETIME:
        raise OAuthError("invalid_request", "expires_in goes with the scope user:inference alone, up to one year.")
    return state.ledger.new_access(code.family, state.clock.now() + lifetime), None


def _refresh(state: State, given: dict[str, Any], client_id: str | None) -> tuple[Access, Refresh | None]:
    try:
        return rotate(state, given, client_id)
    except OAuthError:
        held = state.ledger.refresh.get(given.get("refresh_token", ""))
        state.counters.count(held.family.account if held else None, "refreshes_failed")
        raise


def rotate(state: State, given: dict[str, Any], client_id: str | None) -> tuple[Access, Refresh | None]:
    held = state.ledger.refresh.get(needed(given, "refresh_token"))
    now = state.clock.now()
    if held is None:
        raise OAuthError("invalid_grant", "The refresh token is unknown.")
    family = held.family
    if family.client_id is not None and client_id != family.client_id:
        raise OAuthError("invalid_grant", "The refresh token was given to another client.")
    settings = state.settings[family.account]
    if held.used_at is not None and not now < held.used_at + settings.reuse_grace:
        state.counters.count(family.account, "reuses")
        state.revoke_family(family)
        raise OAuthError("invalid_grant", "The refresh token was used before; its whole login is revoked.")
    if family.revoked or held.revoked:
        raise OAuthError("invalid_grant", "The refresh token is revoked.")
    if held.expires_at <= now:
        raise OAuthError("invalid_grant", "The refresh token has expired.")
    scopes = tuple(given["scope"].split()) if given.get("scope") else family.scopes
    if not set(scopes) <= set(family.scopes):
        raise OAuthError("invalid_scope", "A refresh can't widen the scopes of its login.")
    if settings.refresh_revokes_access:
        for access in state.ledger.access.values():
            access.revoked = access.revoked or access.family is family
    state.counters.count(family.account, "refreshes")
    if not settings.rotation:
        return state.ledger.new_access(family, now + settings.token_lifetime, scopes), None
    held.used_at = now if held.used_at is None else held.used_at
    return _pair(state, family, scopes)


def _device(state: State, given: dict[str, Any], client_id: str | None) -> tuple[Access, Refresh | None]:
    return _pair(state, redeem_device(state, given, client_id))


def redeem_device(state: State, given: dict[str, Any], client_id: str | None) -> Family:
    """Use a device code, and return the login that a person confirmed for it. Raises `OAuthError`."""
    device = state.ledger.devices.get(needed(given, "device_code"))
    now = state.clock.now()
    if device is None or device.used or device.client_id not in {None, client_id}:
        raise OAuthError("invalid_grant", "The device code is unknown, used, or another client's.")
    if device.expires_at <= now:
        raise OAuthError("expired_token", "The device code has expired.")
    early = device.last_poll is not None and now - device.last_poll < device.interval
    device.last_poll = now
    if early:
        device.interval += 5
        raise OAuthError("slow_down", f"Poll every {device.interval:g} s from now on.")
    if device.denied:
        raise OAuthError("access_denied", "The user said no.")
    if device.account is None:
        raise OAuthError("authorization_pending", "The user has not answered yet.")
    device.used = True
    return Family(device.account, device.client_id, device.scopes)


def _federate(state: State, given: dict[str, Any], client_id: str | None) -> tuple[Access, Refresh | None]:
    """RFC 7523. Checks the identity token's form and expiry, but no signature: the sandbox trusts no issuer."""
    for name in ("federation_rule_id", "organization_id"):
        needed(given, name)
    try:
        claims = identity_claims(needed(given, "assertion"))
    except ValueError:
        raise OAuthError("invalid_grant", "The assertion is not a JWT.") from None
    now = state.clock.now()
    account = find(str(claims.get("sub", "")))
    if account is None:
        raise OAuthError("invalid_grant", "The federation rule does not match the identity token.", 401)
    if type(claims.get("exp")) not in {int, float} or claims["exp"] <= now:
        raise OAuthError("invalid_grant", "The identity token has expired.", 401)
    state.counters.count(account.name, "exchanges")
    family = Family(account.name, client_id, (SETUP_SCOPE,))
    return state.ledger.new_access(family, now + state.settings[account.name].token_lifetime), None


def _pair(state: State, family: Family, scopes: tuple[str, ...] | None = None) -> tuple[Access, Refresh]:
    return state.ledger.pair(family, state.settings[family.account], state.clock.now(), scopes)


def revoke(state: State, request: Request) -> Answer:
    """`POST /v1/oauth/token/revoke` (RFC 7009): 200 also for unknown tokens; a refresh token revokes its login."""
    given = parameters(request)
    client_id = client(request, given)
    secret = needed(given, "token")
    held: Access | Refresh | None = state.ledger.refresh.get(secret) or state.ledger.access.get(secret)
    if held is not None and held.family.client_id in {None, client_id}:
        state.counters.count(held.family.account, "revocations")
        held.revoked = True
        if isinstance(held, Refresh):
            held.family.revoked = True
    return json_answer({}, headers=NO_STORE)


def metadata(state: State, _request: Request) -> Answer:
    """`GET /.well-known/oauth-authorization-server` (RFC 8414)."""
    return json_answer(
        {
            "issuer": state.issuer,
            "authorization_endpoint": f"{state.issuer}/oauth/authorize",
            "token_endpoint": f"{state.issuer}/v1/oauth/token",
            "revocation_endpoint": f"{state.issuer}/v1/oauth/token/revoke",
            "device_authorization_endpoint": f"{state.issuer}/oauth/device_authorization",
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code", "refresh_token", DEVICE_GRANT, FEDERATION_GRANT],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["none", "client_secret_basic", "client_secret_post"],
            "scopes_supported": list(SCOPES),
            "authorization_response_iss_parameter_supported": True,
        },
    )
