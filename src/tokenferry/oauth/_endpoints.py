from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True, slots=True)
class OAuthEndpoints:
    """`[providers.oauth]`: where and how a provider logs in and renews. `reuse_grace_s` is in seconds."""

    authorize_url: str | None = None
    token_url: str | None = None
    revoke_url: str | None = None
    client_id: str | None = None
    client_secret_file: str | None = None
    scopes: tuple[str, ...] = ()
    redirect_uri: str | None = None
    loopback_redirect: str | None = None
    token_body: Literal["json", "form"] = "json"  # noqa: S105  # an encoding, no password
    state_in_exchange: bool = False
    reuse_grace_s: float = 0.0

    def at(self, base_url: str) -> "OAuthEndpoints":
        """Give these endpoints with `{base_url}` in them filled in."""
        names = ("authorize_url", "token_url", "revoke_url", "redirect_uri")
        urls = {name: url.replace("{base_url}", base_url) for name in names if (url := getattr(self, name))}
        return replace(self, **urls)
