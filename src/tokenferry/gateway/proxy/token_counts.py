"""Token counts for upstreams that count none: estimated by length, and by what they counted of earlier requests."""

from typing import Final

from tokenferry.gateway.http.client_api import GEMINI, MESSAGES, ClientApi
from tokenferry.gateway.http.headers import Header
from tokenferry.pool import Target
from tokenferry.wire import BYTES_PER_TOKEN, BodySize

ESTIMATED: Final = b"x-tokenferry-estimated"
_MOST_KNOWN: Final = 256
_LEAST_BYTES: Final = 2000
"""Of a small request most is the upstream's own frame."""
_LEAST_RATIO, _MOST_RATIO = 1.0, 8.0
_WEIGHT: Final = 0.2
_MARGIN: Final = 1.05
"""A client that compacts its conversation in time needs a count that is rather too high."""


class TokenRatios:
    """How many bytes of a request make a token, for each provider's model. It belongs to one thread."""

    def __init__(self) -> None:
        self._ratios: dict[tuple[str, str], float] = {}

    def learn(self, target: Target, size: BodySize, tokens: int) -> None:
        """Take in what the upstream counted of a request, cached tokens included."""
        if size.text < _LEAST_BYTES or size.inline_tokens or tokens <= 0:
            return
        key, ratio = (target.group.provider, target.model), size.text / tokens
        if _LEAST_RATIO <= ratio <= _MOST_RATIO and (key in self._ratios or len(self._ratios) < _MOST_KNOWN):
            known = self._ratios.get(key, ratio)
            self._ratios[key] = known + _WEIGHT * (ratio - known)

    def estimate(self, target: Target, size: BodySize) -> int:
        ratio = self._ratios.get((target.group.provider, target.model))
        return size.tokens(BYTES_PER_TOKEN if ratio is None else ratio / _MARGIN)


def count_answer(tokens: int, client: ClientApi = MESSAGES) -> tuple[list[Header], bytes]:
    """The headers and the body of an estimate, which is marked as one."""
    content = b'{"%b":%d}' % (b"totalTokens" if client is GEMINI else b"input_tokens", tokens)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(content)),
        (ESTIMATED, b"input_tokens"),
    ]
    return headers, content
