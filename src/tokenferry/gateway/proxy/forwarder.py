"""Connects exchanges with accounts and upstreams: routes requests, sends them, and filters response headers."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from msgspec import structs
from msgspec.structs import replace

from tokenferry.credentials import Credential
from tokenferry.errors import Unfit
from tokenferry.gateway.auth.ephemeral_key import EphemeralKey
from tokenferry.gateway.auth.passthrough import own_credential
from tokenferry.gateway.http.client_api import CLIENT_APIS, GEMINI, ClientApi
from tokenferry.gateway.http.errors import GatewayError, refusal_to_route
from tokenferry.gateway.http.headers import CredentialCache, Header, ResponseHeaders, with_fixed
from tokenferry.gateway.http.request_head import RequestHead
from tokenferry.gateway.proxy.body import ProxyRequest
from tokenferry.gateway.proxy.credentials import CredentialSource, KeyRing
from tokenferry.gateway.proxy.model_list import ModelList
from tokenferry.gateway.proxy.reasoning_owners import ReasoningOwners, thoughts_in
from tokenferry.gateway.proxy.translation import Translation, error_head
from tokenferry.pool import Criteria, Failover, Pool, Target, Trace, affinity_key, failover, may_use
from tokenferry.readiness import RouteExplanation, Unusable, explain_route
from tokenferry.routing import (
    BodyFacts,
    Malformed,
    NoRoute,
    Pieces,
    RoutePlan,
    Router,
    RouteRequest,
    RouteResolver,
    codec_for,
    count_codec_for,
    hosted_member,
    hosted_target,
    rewrite,
    scan,
)
from tokenferry.settings import RouterSettings
from tokenferry.state import ClientKey
from tokenferry.upstream import Call, EncodedHeaders, ResponseHead, Sink
from tokenferry.upstream._clients import UpstreamClients
from tokenferry.wire import Codec, ModelsCodec, WireFormat, foreign_error

if TYPE_CHECKING:
    from tokenferry.stores import Account

_MULTIPLE_CHOICES: Final = 300
_NOT_MODIFIED: Final = 304
_BAD_REQUEST: Final = 400
_UNAUTHORIZED: Final = 401

_criteria: Final = lru_cache(4096)(Criteria)
"""Cached, since the requests of a conversation have equal criteria."""


class Forwarder:
    """Forwards authenticated requests to the accounts' providers.

    It belongs to one configuration; a reload makes another forwarder.
    """

    def __init__(
        self,
        *,
        source: CredentialSource,
        settings: RouterSettings,
        keys: KeyRing,
        upstreams: UpstreamClients,
        pool: Pool | None = None,
        router: Router | None = None,
        owners: ReasoningOwners | None = None,
    ) -> None:
        self.source = source
        self._owners = owners or ReasoningOwners()
        self._account = settings.account
        self._providers = source.providers
        self.hosted = {name for name, one in source.providers.items() if one.is_hosted}
        self.pool = pool or Pool()
        self._keys = keys
        self._upstreams = upstreams
        self._credential_cache = CredentialCache()
        router = router or Router()
        self._resolver = RouteResolver(settings, self._providers, router, source.listing)
        models = () if router.list_models == "upstream" else router.models
        self._model_lists = {api: ModelList(models, api.name) for api in (*CLIENT_APIS.values(), GEMINI)}
        self.lists_upstreams = router.list_models != "mapped"
        self._listed: Sequence[Account] = ()
        self._users: dict[str, frozenset[str]] = {}
        """The providers that may use each listed account, by its name."""

    def is_pinned(self, key: ClientKey) -> bool:
        """Whether a single account serves all requests of the key."""
        return key.rights.pin is not None or self._account is not None

    def how_to_pin(self, key: ClientKey) -> str:
        """Say how to pin the key, as the end of a message."""
        if isinstance(self._keys, EphemeralKey):  # which no command can change
            return "say which: account='ACCOUNT' of the client or transport, --account ACCOUNT of tokenferry run"
        return f"pin the key to it: tokenferry key set {key.name} --pin ACCOUNT"

    def model_list(self, client: ClientApi) -> ModelList:
        """Give the models to list before the upstream's, or instead of them."""
        return self._model_lists[client]

    def resolve(
        self, facts: BodyFacts | None, head: RequestHead, headers: Sequence[Header], key: ClientKey
    ) -> RoutePlan:
        """Find the accounts for a request. `facts` describe a body that names a model. Raises `GatewayError`."""
        own = own_credential(head) if head.keys else None
        plan = self._resolver.resolve(RouteRequest(facts, headers, own), key)
        if isinstance(plan, NoRoute):
            raise refusal_to_route(plan)
        return plan

    def start(
        self,
        plan: RoutePlan,
        head: RequestHead,
        headers: Sequence[Header],
        *,
        key: ClientKey,
        side: str,
        tokens: int,
        conversation: str = "",
    ) -> tuple[Failover, Trace]:
        """Begin a request's failover over the accounts of its plan. The caller closes it.

        `side` is the path of a side route, `tokens` is the expected use, and `conversation` is the name that the body
        gives to its conversation.
        """
        if plan.is_own:
            pool, criteria = Pool(), Criteria(side=side)  # the client's limits must not affect accounts
        else:
            pool = self.pool
            criteria = _criteria(self._affinity(key.id, head, headers, conversation), None, plan.pinned, side)
            if tokens:
                criteria = replace(criteria, tokens=tokens)
        trace = Trace(pool.monotonic())
        return failover(pool, plan.targets, criteria, trace), trace

    def note_conversation(
        self, request: ProxyRequest, head: RequestHead, headers: Sequence[Header], key: ClientKey, declared: str
    ) -> None:
        """Set the request's conversation and encrypted reasoning. `declared` is the body's name of the conversation."""
        request.conversation = self._affinity(key.id, head, headers, declared)
        request.is_named = request.conversation != key.id
        request.thoughts = thoughts_in(request.body.facts.body if request.body.facts is not None else b"")

    def foreign_thoughts(self, request: ProxyRequest, account: str) -> Collection[int]:
        """Give those of the request's encrypted thoughts that belong to another account."""
        return self._owners.foreign(request.conversation, account, request.thoughts, is_named=request.is_named)

    def own_reasoning(self, request: ProxyRequest, account: str) -> None:
        """Make the account, which has answered, the owner of the conversation's reasoning."""
        self._owners.answered(request.conversation, account, set(request.thoughts) - set(request.foreign))

    def explain(
        self,
        facts: BodyFacts,
        headers: Sequence[Header],
        key: ClientKey,
        unusable: Mapping[str, Unusable],
        *,
        wire_format: WireFormat = "anthropic",
        shows_denied: bool = True,
    ) -> RouteExplanation:
        """Explain where a request would go now. Sends nothing, takes no slot, starts no probe and pins no session."""
        conversation = "" if wire_format == "anthropic" else facts.cache_key
        return explain_route(
            self._resolver,
            self.pool,
            RouteRequest(facts, headers, wire_format=wire_format),
            key,
            affinity=self._affinity(key.id, RequestHead(headers), headers, conversation),
            providers=self._providers,
            listing=self.source.listing(),
            unusable=unusable,
            shows_denied=shows_denied,
        )

    def is_loop(self, vias: Sequence[bytes]) -> bool:
        """Whether the `Via` headers show that this gateway has sent the request already."""
        return self._upstreams.is_loop(vias)

    def is_current(self, provider: str, account: str) -> bool:
        """Whether the source's credential for the account is still meant for this forwarder's address of the provider.

        After a change, the name may belong to another provider's account.
        """
        listed = self.source.listing().accounts
        if listed is not self._listed:
            providers = self._providers.values()
            self._listed = listed
            self._users = {one.name: frozenset(to.name for to in providers if may_use(to, one)) for one in listed}
        if provider not in self._users.get(account, (provider,)):
            return False
        present = self.source.providers
        if present is self._providers:
            return True
        now = present.get(provider)
        return now is not None and now.base_url == self._providers[provider].base_url

    def check_unpriced(self, target: Target, credential: Credential) -> None:
        """Raise `GatewayError` if a subscription would be used for anything but a model's answers."""
        provider = target.group.provider
        if self._providers[provider].bills_subscription(credential):
            message = f"a subscription serves only models' answers; add an account with an API key at {provider}"
            raise GatewayError(403, "permission_error", message, cause="subscription")

    def check_fit(self, request: ProxyRequest, target: Target) -> None:
        """Raise `Unfit` if the target's cloud, one of `hosted`, lacks the route or can't use the model's name."""
        hosted_target(self._providers[target.group.provider], request.target, target.model)

    def reworded(
        self, target: Target, head: ResponseHead, body: bytes, request_id: str
    ) -> tuple[ResponseHead, bytes] | None:
        """Give a cloud's own error in the shape of the API that it hosts; None for all other responses."""
        if self._providers[target.group.provider].wire_format != "vertex-anthropic":
            return None
        found = foreign_error(head.status, body, request_id)
        return found and (error_head(head, *found), found[1])

    def send(self, request: ProxyRequest, target: Target, account: str, credential: Credential, sink: Sink) -> Call:
        """Send the request with the account's credential. Raises `UpstreamError`, or `ConfigError` for a bad URL."""
        known = self._providers[target.group.provider]
        shown = request.own or self._credential_cache.of(account, credential)
        headers = request.head.upstream_headers(shown, identity=request.is_read, fixed=known.headers)
        path, member = request.path, None
        to = request.target if path is None else path.target(target.model or path.model)
        if known.name in self.hosted:
            member = hosted_member(known, to, target.model)
            to = hosted_target(known, to, target.model, stream=request.wants_stream)
        return self._upstreams.get(credential.endpoint or known.base_url).send(
            request.method,
            to,
            headers,
            request.pieces(target.model, member=member),
            sink,
            stream=request.wants_stream,
        )

    def counts(self, target: Target, client: WireFormat) -> bool:
        """Whether the target's upstream can count the tokens of a request in the client's format."""
        known = self._providers[target.group.provider]
        return known.dialect == client or (client == "anthropic" and count_codec_for(known, target) is not None)

    def translate(
        self,
        request: ProxyRequest,
        target: Target,
        account: str,
        sink: Sink,
        *,
        request_id: str,
        fail: Callable[[Exception], None],
    ) -> Translation:
        """Translate the request into the target's format.

        Raises `Unfit`, and `GatewayError` (503) if there is no memory for the translation.
        """
        known = self._providers[target.group.provider]
        if request.models is not None:
            codec: Codec | None = _models_codec(request.client.name, known.dialect, request.models)
        elif request.is_count and self.counts(target, request.client.name):
            codec = count_codec_for(known, target, account)
        elif request.is_side:
            raise Unfit(f"its format has no equivalent of {request.target.partition(b'?')[0].decode('latin-1')}")
        else:
            codec = codec_for(known, target, request.client.name, account)
        assert codec is not None
        sent = request.sent.get(codec)
        if sent is None:
            body = b"".join(request.pieces(target.model, is_native=False))
            sent = codec.request(body, target.model, at=int(time.time()))
            if known.name in self.hosted:
                hosted_target(known, sent.path.encode("ascii"), target.model)
            request.body.add_copy(len(sent.body))
            request.sent[codec] = sent
        is_answer = not request.is_side
        return Translation(codec, sent, sink, provider=known, request_id=request_id, fail=fail, is_answer=is_answer)

    def send_translated(
        self, translation: Translation, request: ProxyRequest, target: Target, account: str, credential: Credential
    ) -> Call:
        """Send a translated request, as `send` does."""
        known = self._providers[target.group.provider]
        shown = request.own or self._credential_cache.of(account, credential)
        sent = translation.sent
        to = translation.target
        pieces: Pieces = [sent.body] if sent.body else []
        if known.name in self.hosted:
            facts, member = scan([sent.body]), hosted_member(known, to, target.model)
            pieces = pieces if isinstance(facts, Malformed) else rewrite(facts, None, member=member)
            to = hosted_target(known, to, target.model, stream=sent.stream)
        translation.call = self._upstreams.get(credential.endpoint or known.base_url).send(
            request.method,
            to,
            EncodedHeaders.of(with_fixed(translation.lines(shown), known.headers)),
            pieces,
            translation,
            stream=sent.stream,
        )
        translation.sent = structs.replace(sent, body=b"")  # its answer may take minutes
        return translation.call

    def response_headers(self, head: ResponseHead, request: ProxyRequest) -> ResponseHeaders:
        """Give the headers to forward. Raises `GatewayError` for a redirect."""
        status = head.status
        if _MULTIPLE_CHOICES <= status < _BAD_REQUEST and status != _NOT_MODIFIED:
            raise GatewayError(
                502,
                "api_error",
                f"the upstream answered with a redirect ({status}), which is never followed; "
                "correct the provider's base_url in config.toml",
                cause="upstream_redirect",
            )
        is_own = request.own is not None
        is_the_callers = is_own or (len(self.source.listing().accounts) == 1 and self._keys.is_sole())
        # A client can't repair an account's credential, so that a retry would be useless.
        with_limits = is_the_callers and not request.is_budgeted
        return ResponseHeaders(head.headers, with_limits=with_limits, may_retry=is_own or status != _UNAUTHORIZED)

    def _affinity(self, key: str, head: RequestHead, headers: Sequence[Header], conversation: str) -> str:
        if head.session is not None:
            agent = "" if head.agent is None else head.agent.decode("latin-1")
            return affinity_key(key, session=head.session.decode("latin-1"), agent=agent)
        if (name := self.pool.settings.affinity_header) is not None:
            wanted = name.encode("latin-1")
            declared = next((value.decode("latin-1") for one, value in headers if one == wanted), "")
            return affinity_key(key, declared=declared)
        return affinity_key(key, declared=conversation) if conversation else key


def _models_codec(client: WireFormat, upstream: str, rest: str) -> ModelsCodec:
    """Give the codec that lists an upstream's models: all on one page, since OpenAI's API has no pages.

    Raises `Unfit` for an API without a list of models.
    """
    if upstream == "vertex":
        raise Unfit("its API can't list the project's models")
    if upstream == "gemini":
        return ModelsCodec(client, "gemini", f"/models{rest}" if rest else "/models?pageSize=1000")
    if upstream != "anthropic":
        return ModelsCodec(client, "openai", f"/models{rest}")
    return ModelsCodec(client, "anthropic", f"/v1/models{rest}" if rest else "/v1/models?limit=1000")
