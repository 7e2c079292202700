"""Estimates token counts for upstreams that can't count, by length and by the usage of earlier requests."""

from typing import Final

from tokenferry.gateway.http.client_api import GEMINI, MESSAGES, ClientApi
from tokenferry.gateway.http.headers import Header
from tokenferry.pool import Target
from tokenferry.wire import BYTES_PER_TOKEN, BodySize

ESTIMATED: Final = b"x-tokenferry-estimated"
_MOST_KNOWN: Final = 256
_LEAST_BYTES: Final = 2000
"""Smaller requests consist mostly of what the upstream adds."""
_LEAST_RATIO, _MOST_RATIO = 1.0, 8.0
_WEIGHT: Final = 0.2
_MARGIN: Final = 1.05
"""A count that is too high is better: a client then compacts its conversation in time."""


class TokenRatios:
    """The bytes per token of each provider's models. For one thread only."""

    def __init__(self) -> None:
        self._ratios: dict[tuple[str, str], float] = {}

    def learn(self, target: Target, size: BodySize, tokens: int) -> None:
        """Adjust the ratio by a request and its input tokens, as the upstream counted them, including cached ones."""
        if size.text < _LEAST_BYTES or size.inline_tokens or tokens <= 0:
            return
        key, ratio = (target.group.provider, target.model), size.text / tokens
        if _LEAST_RATIO <= ratio <= _MOST_RATIO and (key in self._ratios or len(self._ratios) < _MOST_KNOWN):
            known = self._ratios.get(key, ratio)
            self._ratios[key] = known + _WEIGHT * (ratio - known)

    def estimate(self, target: Target, size: BodySize) -> int:
        """Give the estimated input tokens of a request."""
        ratio = self._ratios.get((target.group.provider, target.model))
        return size.tokens(BYTES_PER_TOKEN if ratio is None else ratio / _MARGIN)


def count_answer(tokens: int, client: ClientApi = MESSAGES) -> tuple[list[Header], bytes]:
    """Give the headers, which mark an estimate, and the body of an answer."""
    content = b'{"%b":%d}' % (b"totalTokens" if client is GEMINI else b"input_tokens", tokens)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(content)),
        (ESTIMATED, b"input_tokens"),
    ]
    return headers, content
