"""A login's own profile and usage, and its own API key."""

from datetime import UTC, datetime
from typing import Any

from tokenferry.sandbox._http import Answer, ApiError, Request, json_answer
from tokenferry.sandbox._limits import Window
from tokenferry.sandbox._messages import authenticate
from tokenferry.sandbox._state import State


def profile(state: State, request: Request) -> Answer:
    """`GET /api/oauth/profile`."""
    caller = authenticate(state, request, "user:profile", beta=False)
    if caller.scopes is None:
        raise ApiError(401, "OAuth authentication is required")
    account = caller.account
    plan = account.subscription
    return json_answer(
        {
            "account": {
                "uuid": account.uuid,
                "full_name": account.full_name,
                "display_name": account.full_name.partition(" ")[0],
                "email": account.email,
                "has_claude_max": plan == "max",
                "has_claude_pro": plan == "pro",
            },
            "organization": {
                "uuid": account.organization_uuid,
                "name": account.organization_name,
                "organization_type": f"claude_{plan}" if plan else "api_individual",
                "billing_type": "stripe_subscription" if plan else "prepaid",
                "rate_limit_tier": "default_claude_max_20x" if plan == "max" else "default_claude_ai",
            },
        },
    )


def usage(state: State, request: Request) -> Answer:
    """`GET /api/oauth/usage`: utilization in percent, resets in RFC 3339."""
    caller = authenticate(state, request, "user:profile")
    if not caller.subscription:
        raise ApiError(403, "Usage is known for subscriptions only")
    windows = state.settings[caller.account.name].limits.windows(state.clock.now())
    names = {"five_hour": "5h", "seven_day": "7d", "seven_day_opus": "7d_opus", "seven_day_sonnet": "7d_sonnet"}
    return json_answer({name: _used(windows.get(window)) for name, window in names.items()})


def _used(window: Window | None) -> dict[str, Any] | None:
    if window is None:
        return None
    resets_at = datetime.fromtimestamp(window.reset, UTC).isoformat()
    return {"utilization": round(window.utilization * 100, 1), "resets_at": resets_at}


def create_api_key(state: State, request: Request) -> Answer:
    """`POST /api/oauth/claude_cli/create_api_key`: only for Console logins."""
    caller = authenticate(state, request, "org:create_api_key", beta=False)
    if caller.scopes is None or not caller.account.can_create_keys:
        raise ApiError(403, "This account can't create API keys")
    return json_answer({"raw_key": state.ledger.new_key(caller.account.name)})
