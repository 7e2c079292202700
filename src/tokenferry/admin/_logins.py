"""`/api/oauth/authorize` and `/exchange`: the paths and fields that existing tools of this kind have."""

from typing import Annotated, Final

from fastapi import APIRouter, Body

from tokenferry.actions import LoginInProgress, LoginService, secret_of
from tokenferry.admin._key import Key
from tokenferry.admin._models import AuthorizeAnswer, AuthorizeRequest, ExchangeRequest, TokenDone, moment
from tokenferry.errors import LoginFailed
from tokenferry.stores import check_account_name

_SUCCESS: Final = "OAuth authentication successful! Token saved."
_VENDORS_CLIENT: Final = (
    "It uses the public client id of the Claude Code CLI, which belongs to Anthropic; the vendor's own login command "
    "({command}) serves as well. "
)


def login_routes(service: LoginService) -> APIRouter:
    routes = APIRouter(prefix="/api/oauth")

    @routes.post("/authorize", response_model_exclude_none=True)
    def authorize(key: Key, asked: Annotated[AuthorizeRequest | None, Body()] = None) -> AuthorizeAnswer:
        """Begin a login, and give the address where a person logs in."""
        asked = asked or AuthorizeRequest()
        begun = service.begin(asked.oauth_type, key, asked.provider_id)
        return AuthorizeAnswer(
            url=begun.url,
            state=begun.state.reveal(),
            instructions=_instructions(begun),
            expires_in=begun.expires_in,
            verifier=begun.handle.reveal(),
            login_url=begun.login_url,
        )

    @routes.post("/exchange")
    def exchange(key: Key, asked: ExchangeRequest) -> TokenDone:
        """Finish a login with the code that its last page shows, and keep it as an account."""
        pasted = secret_of(asked.code.get_secret_value())
        if pasted is None:
            raise LoginFailed("the code can't be read; give it whole, as the page shows it: CODE#STATE")
        kept = service.exchange(pasted, check_account_name(asked.provider_id), key)
        known = f" It is account {kept.name} already, which was updated." if kept.name != asked.provider_id else ""
        return TokenDone(message=_SUCCESS + known, provider_id=kept.name, expires_at=moment(kept.token.expires_at))

    return routes


def _instructions(begun: LoginInProgress) -> str:
    provider = begun.provider
    vendors = ""
    if provider.uses_vendors_client:
        vendors = _VENDORS_CLIENT.format(command="claude /login" if provider.subscription else "ant auth login")
    minutes = begun.expires_in // 60
    home = ""
    if begun.login_url is not None:
        home = "Open login_url in a browser of this machine, once, and the login comes home by itself. Or: "
    return (
        f"{vendors}{home}Visit the URL above and log in. Then give the code that the last page shows, CODE#STATE, to "
        f"POST /api/oauth/exchange, with the same key, within {minutes} minutes."
    )
