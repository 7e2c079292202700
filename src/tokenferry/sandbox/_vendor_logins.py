"""Logins in the formats of two vendors, as their public clients show them; nothing here was tried with the vendors.

GitHub: a device login whose token never expires, exchanged for a short-lived API token. MiniMax: a device login with
the user code itself and PKCE, whose times are milliseconds since 1970.
"""

import hmac
from typing import Any

from tokenferry.sandbox._accounts import ACCOUNTS, SETUP_SCOPE
from tokenferry.sandbox._http import Answer, Request, json_answer
from tokenferry.sandbox._ledger import Device, Family
from tokenferry.sandbox._oauth import NO_STORE, OAuthError, challenge_of, needed, parameters, redeem_device, rotate
from tokenferry.sandbox._state import State

GITHUB_SCOPE = "read:user"
MINIMAX_GRANT = "urn:ietf:params:oauth:grant-type:user_code"


def github_device_code(state: State, request: Request) -> Answer:
    """`POST /login/device/code`. A client id is required; any is accepted."""
    given = parameters(request)
    device = _new_device(state, needed(given, "client_id"))
    return json_answer(
        {
            "device_code": device.device_code,
            "user_code": device.user_code,
            "verification_uri": f"{state.issuer}/oauth/device",
            "expires_in": round(state.device_lifetime),
            "interval": device.interval,
        }
    )


def github_access_token(state: State, request: Request) -> Answer:
    """`POST /login/oauth/access_token`. Errors have status 200, and the token never expires."""
    given = parameters(request)
    try:
        family = redeem_device(state, given, needed(given, "client_id"))
    except OAuthError as error:
        return json_answer({"error": error.error, "error_description": error.description})
    state.counters.count(family.account, "grants")
    return json_answer(
        {"access_token": state.ledger.new_long_lived(family), "token_type": "bearer", "scope": GITHUB_SCOPE},
        headers=NO_STORE,
    )


def github_exchange(state: State, request: Request) -> Answer:
    """`GET /copilot_internal/v2/token`: a short-lived token, and the address that accepts it."""
    scheme, _, presented = request.header("authorization").partition(" ")
    family = state.ledger.long_lived.get(presented) if scheme.lower() in {"token", "bearer"} else None
    if family is None or family.revoked:
        return json_answer({"message": "Bad credentials", "documentation_url": f"{state.issuer}/docs"}, 401)
    if not state.settings[family.account].exchange:
        refusal = (
            f"{ACCOUNTS[family.account].email} has no access. Ask the administrator of the organization for a seat."
        )
        return json_answer({"can_signup": False, "error_details": {"message": refusal, "title": "No access"}}, 403)
    state.counters.count(family.account, "exchanges")
    expires_at = state.clock.now() + state.settings[family.account].token_lifetime
    access = state.ledger.new_access(Family(family.account, family.client_id, (SETUP_SCOPE,)), expires_at)
    access.is_exchanged = True
    return json_answer(
        {
            "token": access.token,
            "expires_at": int(expires_at),
            "refresh_in": int(expires_at - state.clock.now()) - 300,
            "endpoints": {"api": f"{state.issuer}/v1"},
        },
        headers=NO_STORE,
    )


def minimax_code(state: State, request: Request) -> Answer:
    """`POST /oauth/code`."""
    given = parameters(request)
    if (given.get("response_type"), given.get("code_challenge_method")) != ("code", "S256"):
        raise OAuthError("invalid_request", "response_type must be code, and code_challenge_method S256.")
    device = _new_device(state, needed(given, "client_id"))
    device.challenge = needed(given, "code_challenge")
    return json_answer(
        {
            "user_code": device.user_code,
            "verification_uri": f"{state.issuer}/oauth/device",
            "expired_in": int(device.expires_at * 1000),
            "interval": int(device.interval * 1000),
            "state": needed(given, "state"),
        }
    )


def minimax_token(state: State, request: Request) -> Answer:
    """`POST /oauth/token`, with the user code or a refresh token. Errors and pending logins have status 200."""
    given = parameters(request)
    client_id = needed(given, "client_id")
    if given.get("grant_type") == "refresh_token":
        access, refresh = rotate(state, given, client_id)
    else:
        try:
            family = _confirmed(state, given, client_id)
        except OAuthError as error:
            if error.error in {"authorization_pending", "slow_down"}:
                return json_answer({"status": "pending"})
            refusal = {"status_code": 1004, "status_msg": error.description}
            return json_answer({"status": "error", "base_resp": refusal})
        access, refresh = state.ledger.pair(family, state.settings[family.account], state.clock.now())
    state.counters.count(access.family.account, "grants")
    return json_answer(
        {
            "status": "success",
            "access_token": access.token,
            "refresh_token": refresh and refresh.token,
            "expired_in": int(access.expires_at * 1000),
            "token_type": "Bearer",
            "resource_url": f"{state.issuer}/anthropic",
        },
        headers=NO_STORE,
    )


def _new_device(state: State, client_id: str) -> Device:
    expires_at = state.clock.now() + state.device_lifetime
    return state.ledger.new_device(client_id, (SETUP_SCOPE,), expires_at, state.device_interval)


def _confirmed(state: State, given: dict[str, Any], client_id: str) -> Family:
    if given.get("grant_type") != MINIMAX_GRANT:
        raise OAuthError("unsupported_grant_type", "There is no such grant here.")
    device = state.ledger.device_by_user_code(needed(given, "user_code"))
    challenge = challenge_of(needed(given, "code_verifier"))
    if device is None or not hmac.compare_digest(challenge, device.challenge):
        raise OAuthError("invalid_grant", "The user code is unknown, or the code_verifier is another's.")
    return redeem_device(state, {"device_code": device.device_code}, client_id)
