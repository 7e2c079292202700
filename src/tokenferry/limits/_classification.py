from typing import Literal, TypeAlias

from msgspec import Struct

Scope: TypeAlias = Literal["request", "transient", "credential", "account", "organization", "provider"]
"""What an answer concerns. `transient` is nothing that lasts."""

Models: TypeAlias = Literal["all", "family", "model"]
"""The models that it concerns within its scope: all, the requested model's family, or only the requested model."""

Action: TypeAlias = Literal[
    "return",
    "refresh",
    "fail-over",
    "hop",
    "retry",
    "retry-then-hop",
    "next-provider",
]
"""The next step.

* return: forward the answer unchanged
* refresh: force a refresh and retry once, if the credential can be renewed; otherwise as fail-over
* fail-over: try the next account
* hop: try at most one other account of this target, then the next target; without any, forward the answer
* retry: try the next provider; without one, retry once
* retry-then-hop: retry once or twice with jitter, try at most one other account, then the next provider
* next-provider: try the accounts of the next provider
"""

CooldownRule: TypeAlias = Literal[
    "none", "later", "window", "retry-after", "date", "back-off", "long", "hour", "indefinite", "login"
]
"""The length of the cooldown.

* none: no cooldown
* later: no cooldown, but for 5 minutes other accounts come first
* window, retry-after, date: until the end that the answer states
* back-off: a random time up to 1 s, doubled with each failure up to 60 s
* long: 60 s, doubled with each failure up to an hour
* hour: an hour
* indefinite: until an operator or a recovery probe ends it
* login: until the account's next login or key
"""


class Classification(Struct, frozen=True):
    """The meaning of an answer."""

    scope: Scope
    models: Models
    cause: str
    """A short name, which distinguishes cooldowns."""
    action: Action
    hold: CooldownRule
    until: float | None
    """The end that the answer states, in seconds since 1970 UTC, perhaps in the past; None without one."""
    reason: str
    """A sentence for people. It holds no secret."""
