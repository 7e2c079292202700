from tokenferry.gateway.http.errors import GatewayError
from tokenferry.gateway.proxy.body import RequestBody
from tokenferry.routing import BodyFacts, Malformed, scan


def parse_body(body: RequestBody) -> BodyFacts:
    """Read a request's body, which is in one piece from here on. Raises `GatewayError` (400) for what is no request."""
    facts = scan(body.chunks)
    if isinstance(facts, Malformed):
        raise GatewayError(400, "invalid_request_error", facts.message, cause=facts.cause)
    body.chunks, body.facts = [facts.body], facts
    return facts
