from typing import Literal, TypeAlias

from msgspec import Struct

Scope: TypeAlias = Literal["request", "transient", "credential", "account", "organization", "provider"]
"""What an answer is about. `transient`: nothing that lasts, unless a sibling gets the same; then this address."""

Models: TypeAlias = Literal["all", "family", "model"]
"""For which models it holds within its scope: all, those of the requested one's family, or the requested one alone."""

Action: TypeAlias = Literal[
    "return",
    "refresh",
    "fail-over",
    "hop",
    "retry",
    "retry-then-hop",
    "next-provider",
]
"""What comes next.

* return: the client gets the answer unchanged
* refresh: of an OAuth login one forced refresh, and once more; then, and for other kinds at once, as fail-over
* fail-over: the next account
* hop: one other account of this target at most, then the next target; the client gets the answer where there is none
* retry: once more in place, or the next provider
* retry-then-hop: once or twice more in place with jitter, at most one other account, then the next provider
* next-provider: the accounts of the next provider
"""

CooldownRule: TypeAlias = Literal[
    "none", "later", "window", "retry-after", "date", "back-off", "long", "hour", "indefinite", "login"
]
"""For how long the scope is passed over.

* none: not at all
* later: not at all; for 5 minutes other accounts come first
* window, retry-after, date: until what the answer says
* back-off: the answer says nothing; up to 1 s, doubled each time up to 60 s
* long: the answer says nothing; 60 s, doubled each time up to an hour
* hour: an hour
* indefinite: until a person or a better-informed observation says otherwise
* login: until its next login or key
"""


class Classification(Struct, frozen=True):
    """What an answer means."""

    scope: Scope
    models: Models
    cause: str
    """A short name that tells cooldowns apart."""
    action: Action
    hold: CooldownRule
    until: float | None
    """When it ends by the answer, in seconds since 1970 UTC; it may lie in the past. None unless the answer says so."""
    reason: str
    """A sentence for people, without any secret."""
