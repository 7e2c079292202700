"""What exchanges need to know of accounts and upstreams: which may serve, how one is asked, what the client may see."""

from typing import TYPE_CHECKING, Final

from tokenferry.credentials import Credential
from tokenferry.gateway._answers import Refusal
from tokenferry.gateway._credentials import CredentialSource, KeyRing
from tokenferry.gateway._headers import Down, Presentations
from tokenferry.gateway._request import Request
from tokenferry.gateway._routing import Choice, choose
from tokenferry.gateway._upstreams import Upstreams
from tokenferry.gateway.upstream import Exchange, Head, Sink
from tokenferry.providers import Provider
from tokenferry.settings import GatewaySettings
from tokenferry.stores import Account

if TYPE_CHECKING:
    from collections.abc import Sequence

_MULTIPLE_CHOICES: Final = 300
_NOT_MODIFIED: Final = 304
_BAD_REQUEST: Final = 400
_UNAUTHORIZED: Final = 401


class Relay:
    """Takes requests whose caller is known to where their account lives.

    It goes by the settings and providers of one configuration; of another one there is another relay.
    """

    def __init__(
        self, *, source: CredentialSource, settings: GatewaySettings, keys: KeyRing, upstreams: Upstreams
    ) -> None:
        self.source = source
        self._providers = source.providers
        self._settings = settings
        self._keys = keys
        self._upstreams = upstreams
        self._presentations = Presentations()
        self._chosen_from: Sequence[Account] | None = None
        self._choice: Choice | None = None

    def choose(self) -> Choice:
        """The choice among the present accounts; it stays the same until they change. Raises `Refusal`."""
        accounts = self.source.listed()
        if self._choice is None or accounts is not self._chosen_from:
            self._choice = choose(self._settings, self._providers, accounts)
            self._chosen_from = accounts
        return self._choice

    def is_current(self, provider: Provider) -> bool:
        """Tell whether the source has its credentials for the address that this relay knows of the provider."""
        present = self.source.providers
        if present is self._providers:
            return True
        now = present.get(provider.name)
        return now is not None and now.base_url == provider.base_url

    def send(
        self,
        request: Request,
        provider: Provider,
        account: Account,
        credential: Credential,
        sink: Sink,
        *,
        is_inference: bool,
    ) -> Exchange:
        """Send the request as this account's. Raises `UpstreamError`, and `ConfigError` for a URL that is none."""
        presented = self._presentations.of(account.name, credential, provider.key_header)
        return self._upstreams.get(provider.base_url).send(
            request.method,
            request.target,
            (),
            request.body.chunks,
            sink,
            lines=request.head.up(presented, identity=is_inference),
            stream=is_inference and request.wants_stream,
        )

    def host(self, provider: Provider) -> str:
        """Where its requests go, fit for messages."""
        return self._upstreams.get(provider.base_url).host

    def down(self, head: Head) -> Down:
        """The headers of an answer that passes. Raises `Refusal` for one that mustn't."""
        status = head.status
        if _MULTIPLE_CHOICES <= status < _BAD_REQUEST and status != _NOT_MODIFIED:
            raise Refusal(
                502,
                "api_error",
                f"the upstream answered with a redirect ({status}), which is never followed; "
                "mend the provider's base_url in config.toml",
                cause="upstream_redirect",
            )
        is_the_callers = len(self.source.listed()) == 1 and self._keys.is_sole()
        # Nothing a client does mends an account's credential: it would only ask again, for minutes.
        return Down(head.headers, with_limits=is_the_callers, may_retry=status != _UNAUTHORIZED)
