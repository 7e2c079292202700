"""What exchanges need to know of accounts and upstreams: which may serve, how one is asked, what the client may see."""

from typing import TYPE_CHECKING, Final

from tokenferry.credentials import Credential
from tokenferry.gateway._answers import Refusal
from tokenferry.gateway._credentials import CredentialSource, KeyRing
from tokenferry.gateway._headers import Down, Presentations
from tokenferry.gateway._request import Request
from tokenferry.gateway._request_head import RequestHead
from tokenferry.gateway._routing import Lineup, line_up, line_up_for
from tokenferry.gateway._upstreams import Upstreams
from tokenferry.gateway.upstream import Exchange, Head, Sink
from tokenferry.pool import Hop, Journey, Pool, Want, affinity_key
from tokenferry.settings import GatewaySettings
from tokenferry.state import ClientKey

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenferry.state import Rights
    from tokenferry.stores import Account

_MULTIPLE_CHOICES: Final = 300
_NOT_MODIFIED: Final = 304
_BAD_REQUEST: Final = 400
_UNAUTHORIZED: Final = 401
_MOST_KNOWN: Final = 256


class Relay:
    """Takes requests whose caller is known to where their account lives.

    It goes by the settings and providers of one configuration; of another one there is another relay.
    """

    def __init__(
        self,
        *,
        source: CredentialSource,
        settings: GatewaySettings,
        keys: KeyRing,
        upstreams: Upstreams,
        pool: Pool | None = None,
    ) -> None:
        self.source = source
        self._providers = source.providers
        self.pool = pool or Pool()
        self._settings = settings
        self._keys = keys
        self._upstreams = upstreams
        self._presentations = Presentations()
        self._accounts: Sequence[Account] | None = None
        self._lineup: Lineup | None = None
        self._lineups: dict[tuple[str, Rights], Lineup] = {}
        """Of keys with rights."""
        self._hops: dict[tuple[Lineup, str], tuple[Hop, ...]] = {}
        self._allowed: dict[Rights, frozenset[str]] = {}

    @property
    def is_capped(self) -> bool:
        """Whether a journey may have to wait for a place."""
        return self.pool.load.is_capped

    def lineup(self, key: ClientKey) -> Lineup:
        """Who of the present accounts may serve this key; it stays the same until they change. Raises `Refusal`."""
        accounts = self.source.listed()
        if accounts is not self._accounts:
            self._accounts = accounts
            self._lineup = None
            self._lineups.clear()
            self._hops.clear()
            self._allowed.clear()
        if not key.rights.is_everything:
            return self._lineup_for(key, accounts)
        if self._lineup is None:
            self._lineup = line_up(self._settings, self._providers, accounts)
        return self._lineup

    def _lineup_for(self, key: ClientKey, accounts: "Sequence[Account]") -> Lineup:
        known = self._lineups.get((key.name, key.rights))
        if known is None:
            if len(self._lineups) >= _MOST_KNOWN:
                self._lineups.clear()
            known = line_up_for(key, self._settings, self._providers, accounts)
            self._lineups[key.name, key.rights] = known
        return known

    def journey(
        self,
        lineup: Lineup,
        head: RequestHead,
        headers: "Sequence[tuple[bytes, bytes]]",
        *,
        key: ClientKey,
        model: str | None,
        is_side: bool,
    ) -> Journey:
        """Begin a request's way over the accounts that its key may use. Close it when the request has ended."""
        rights, pinned, allowed = key.rights, lineup.pinned, None
        if not rights.is_everything:
            allowed = self._allowed_to(rights, lineup)
        want = Want(self._affinity(key.id, head, headers), allowed, pinned, is_side)
        return self.pool.journey(self._hops_for(lineup, model or ""), want)

    def is_current(self, provider: str) -> bool:
        """Tell whether the source has its credentials for the address that this relay knows of the provider."""
        present = self.source.providers
        if present is self._providers:
            return True
        now = present.get(provider)
        return now is not None and now.base_url == self._providers[provider].base_url

    def send(self, request: Request, provider: str, account: str, credential: Credential, sink: Sink) -> Exchange:
        """Send the request as this account's. Raises `UpstreamError`, and `ConfigError` for a URL that is none."""
        known = self._providers[provider]
        presented = self._presentations.of(account, credential, known.key_header)
        return self._upstreams.get(known.base_url).send(
            request.method,
            request.target,
            (),
            request.body.chunks,
            sink,
            lines=request.head.up(presented, identity=request.is_inference),
            stream=request.wants_stream,
        )

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

    def _hops_for(self, lineup: Lineup, model: str) -> tuple[Hop, ...]:
        hops = self._hops.get((lineup, model))
        if hops is None:
            if len(self._hops) >= _MOST_KNOWN:
                self._hops.clear()
            hops = self._hops[lineup, model] = tuple(Hop(roster, model) for roster in lineup.rosters)
        return hops

    def _allowed_to(self, rights: "Rights", lineup: Lineup) -> frozenset[str]:
        allowed = self._allowed.get(rights)
        if allowed is None:
            if len(self._allowed) >= _MOST_KNOWN:
                self._allowed.clear()
            members = [member for roster in lineup.rosters for member in roster.members]
            allowed = self._allowed[rights] = frozenset(
                member.name for member in members if rights.allows_account(member.name, member.provider)
            )
        return allowed

    def _affinity(self, key: str, head: RequestHead, headers: "Sequence[tuple[bytes, bytes]]") -> str:
        if head.session is not None:
            agent = "" if head.agent is None else head.agent.decode("latin-1")
            return affinity_key(key, session=head.session.decode("latin-1"), agent=agent)
        declared = ""
        if (name := self.pool.settings.affinity_header) is not None:
            wanted = name.encode("latin-1")
            declared = next((value.decode("latin-1") for one, value in headers if one == wanted), "")
        return affinity_key(key, declared=declared)
