from tokenferry.gateway._answers import Refusal
from tokenferry.gateway._request import Body
from tokenferry.routing import BodyFacts, Malformed, scan


def facts_of(body: Body) -> BodyFacts:
    """Read a request's body, which is in one piece from here on. Raises `Refusal` (400) for what is no request."""
    facts = scan(body.chunks)
    if isinstance(facts, Malformed):
        raise Refusal(400, "invalid_request_error", facts.message, cause=facts.cause)
    body.chunks, body.facts = [facts.body], facts
    return facts
