from typing import TYPE_CHECKING, ClassVar

from tokenferry.broker._store_login import StoredLogin, check_login_name, store_login
from tokenferry.errors import LoginFailed, PolicyRefused, UnknownProvider, UsageError
from tokenferry.oauth import Authorization
from tokenferry.policy_statement import LOGIN_REFUSED
from tokenferry.secret import Concealing

if TYPE_CHECKING:
    from tokenferry.broker._broker import Broker
    from tokenferry.broker._logins import Logins
    from tokenferry.providers import Provider


class PendingLogin(Concealing, frozen=True):
    """A started login: a person opens `url` in any browser, and `finish` takes the code that its last page shows."""

    hidden: ClassVar = ("url", "_broker", "_logins", "_authorization")

    provider: str
    url: str
    _broker: "Broker"
    _logins: "Logins"
    _authorization: Authorization
    _redirect_uri: str

    @classmethod
    def begin(cls, broker: "Broker", logins: "Logins", name: str) -> "PendingLogin":
        """Raises what `Broker.begin_login` does."""
        from tokenferry.login import redirect_for_paste  # noqa: PLC0415  # sockets and pages, for a login alone

        provider = broker.providers.get(name)
        if provider is None:
            raise UnknownProvider.at_login(name, _where_to_log_in(broker))
        _check_policy(broker, provider)
        endpoints = logins.endpoints(provider, device=False)
        missing = [
            key for key in ("client_id", "authorization_endpoint", "token_endpoint") if getattr(endpoints, key) is None
        ]
        if missing:
            raise UsageError(
                f"provider {name!r} has no {' and no '.join(missing)}, so a browser can't log in there; those to log "
                f"in at: {', '.join(_where_to_log_in(broker))}; declare others under [providers.oauth] in config.toml"
            )
        authorization, redirect_uri = Authorization.begin(endpoints), redirect_for_paste(endpoints)
        return cls(name, authorization.url(redirect_uri), broker, logins, authorization, redirect_uri)

    def finish(self, pasted: str, name: str | None = None) -> StoredLogin:
        """Exchange the pasted `CODE#STATE`, or the address of the last page, and store the login.

        It becomes the account `name`, else this person's account at the provider, else one named by e-mail address.
        After a wrong code or a name that is taken you may call it again. Blocks for up to 40 seconds. Raises
        `LoginFailed`, `TryLater`, `UsageError`, and what `Broker.add` raises.
        """
        if name is not None:
            check_login_name(self._broker, name, self.provider)
        answer = self._authorization.read_pasted(pasted, (self._redirect_uri,))
        if answer is None:
            raise LoginFailed(
                "that doesn't answer this login; give CODE#STATE as the page shows it, or the address of the page"
            )
        token = self._logins.exchange(self._authorization, answer)
        return store_login(self._broker, self.provider, token, name)


def _where_to_log_in(broker: "Broker") -> list[str]:
    known = broker.providers.values()
    return [one.name for one in known if one.oauth.client_id and (one.oauth.authorization_endpoint or one.oauth.issuer)]


def _check_policy(broker: "Broker", provider: "Provider") -> None:
    if provider.subscription and broker.policy.subscriptions != "own-use":
        raise PolicyRefused(LOGIN_REFUSED)
