"""The meaning of answers, as a table. The first rule that fits decides."""

import re
from collections.abc import Container
from typing import Final, Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from tokenferry.limits._classification import Action, CooldownRule, Models, Scope
from tokenferry.limits._error import BROKEN, FILTERED, MODERATED, NO_QUOTA, QUOTA, QUOTA_OF_DAY, AnswerError

Evidence: TypeAlias = Literal["window", "family-window", "rejected", "allowed", "counted", "nothing"]
"""What the headers say about limits.

* window: a window of all models is used up
* family-window: a window of a model family is used up
* rejected: the subscription is rejected, without a window
* allowed: the subscription is within its limits
* counted: there are buckets or a wait, as for API keys
* nothing: no limits at all
"""

# Messages quote requests: a client that names a field `credit balance is too low` must not start a cooldown. So only
# plain words may precede a phrase, and no explanation of a field may follow it.
_LEAD: Final = r"(?:[a-z'\u2019, -]|\. ){0,80}?"
_WHOSE: Final = "(this|your) (organization|account)"
_UNQUOTED: Final = r"(?!.*: )"
# If the vendor's whole sentence is known, it must also end there; the next one begins with a capital.
_SENTENCE: Final = r"(?=[.!]?\s*$|[.!]\s+(?-i:[A-Z]))" + _UNQUOTED

REVOKED: Final = frozenset(
    {
        "OAuth token has been revoked. Please obtain a new token.",
        "OAuth access token has been revoked. Please obtain a new token or refresh your existing token.",
    }
)
"""Messages of a 403 that refuses an access token."""


class Rule(Struct, frozen=True, kw_only=True):
    """Fits an answer if status, evidence and page match and it names the error in one of the given ways."""

    statuses: Container[int]
    codes: frozenset[str] = frozenset()
    """Codes of the error."""
    says: str = ""
    """A pattern for the beginning of its message, in any case."""
    message: frozenset[str] = frozenset()
    """Its whole message."""
    challenge: str = ""
    """The error that `www-authenticate` names (RFC 6750)."""
    evidence: Evidence | None = None
    is_page: bool | None = None

    cause: str
    scope: Scope
    models: Models = "all"
    action: Action
    hold: CooldownRule = "none"
    otherwise: CooldownRule = "back-off"
    """Replaces `window`, `retry-after` and `date` if the answer states no end."""
    reason: str
    """A sentence for people. `{windows}` is replaced by the used-up windows."""

    def fits(self, status: int, error: AnswerError, evidence: Evidence, challenge: str = "") -> bool:
        return (
            status in self.statuses
            and self.evidence in {None, evidence}
            and self.is_page in {None, error.is_page}
            and self._names(error, challenge)
        )

    def _names(self, error: AnswerError, challenge: str) -> bool:
        if not (self.codes or self.says or self.message or self.challenge):
            return True
        return (
            not self.codes.isdisjoint(error.codes)
            or error.message.strip() in self.message
            or (self.challenge != "" and self.challenge == challenge)
            or (self.says != "" and re.match(_LEAD + self.says, error.message, re.DOTALL | re.IGNORECASE) is not None)
        )


AFTER_CONTENT: Final = Rule(
    statuses=(),
    cause="after-content",
    scope="request",
    action="return",
    reason="The stream ended with an error after content that the client may have, so the request is not sent again.",
)

_REFUSED: Final = Rule(
    statuses={401},
    cause="refused",
    scope="credential",
    action="refresh",
    hold="login",
    reason="The credential was refused.",
)
_NO_CREDIT: Final = Rule(
    statuses={402, 403, 429},
    codes=frozenset({"insufficient_quota", "exceeded_current_quota_error", "1113", "minimax-1008"}),
    cause="no-credit",
    scope="account",
    action="fail-over",
    hold="indefinite",
    reason="The account has no credit left; buy some.",
)
_OVERLOADED: Final = Rule(
    statuses={498, 529},
    cause="overloaded",
    scope="provider",
    models="model",
    action="retry-then-hop",
    reason="The provider is overloaded; no account is at fault.",
)
_RATE_LIMIT: Final = Rule(
    statuses={429},
    cause="rate-limit",
    scope="organization",
    models="family",
    action="fail-over",
    hold="retry-after",
    reason="The organization's rate limit for this family of models is reached.",
)

RULES: Final = (
    Rule(
        statuses=range(200, 300),
        is_page=True,
        cause="page",
        scope="request",
        action="return",
        reason="A proxy in front of the provider answered with a page; whether the request was served is unknown.",
    ),
    Rule(
        statuses=range(200, 300),
        cause="ok",
        scope="request",
        action="return",
        reason="The request was served.",
    ),
    # -- 400
    replace(_NO_CREDIT, statuses={400}, says="credit balance is too low" + _UNQUOTED),
    Rule(
        statuses={400},
        says="out of extra usage" + _UNQUOTED,
        cause="no-extra-usage",
        scope="account",
        action="fail-over",
        hold="long",
        reason="The account's subscription doesn't cover this use, and its extra usage is used up.",
    ),
    Rule(
        statuses={400},
        says="only authorized for use with claude code" + _UNQUOTED,
        cause="claude-code-only",
        scope="credential",
        action="return",
        hold="indefinite",
        reason="The vendor accepts this credential only from Claude Code itself; the gateway can't use it.",
    ),
    Rule(
        statuses={400},
        says="(this|your) organization has been disabled" + _SENTENCE,
        cause="organization-disabled",
        scope="organization",
        action="hop",
        hold="indefinite",
        reason="The vendor has disabled the account's organization.",
    ),
    Rule(
        statuses={400},
        says="you have reached your specified (workspace )?api usage limits" + _SENTENCE,
        cause="usage-limit",
        scope="organization",
        action="hop",
        hold="date",
        otherwise="hour",
        reason="The organization has reached the usage limit that it set itself.",
    ),
    Rule(
        statuses={400},
        says="(the long context beta is not (yet )?available for this subscription"
        "|extra usage is required for long context requests)" + _SENTENCE,
        cause="no-long-context",
        scope="account",
        models="model",
        action="hop",
        reason="The account's plan has no long context; the request itself is fine.",
    ),
    Rule(
        statuses={400},
        codes=frozenset({"context_length_exceeded"}),
        says=r"(prompt is too long|input length and `?max_tokens`? exceed|context (window|limit|length)\b"
        r"|the input token count( \(\d+\))? exceeds the maximum number of tokens allowed)",
        cause="prompt-too-long",
        scope="request",
        models="model",
        action="return",
        reason="The prompt is too long for this model.",
    ),
    replace(_REFUSED, statuses={400}, codes=frozenset({"API_KEY_INVALID"})),
    Rule(
        statuses={400},
        says="user location is not supported for the api use" + _SENTENCE,
        cause="not-allowed",
        scope="account",
        action="fail-over",
        hold="hour",
        reason="The account's plan is not available at this machine's location.",
    ),
    Rule(
        statuses={400},
        codes=frozenset({FILTERED}),
        cause="filtered",
        scope="request",
        action="next-provider",
        reason="The provider's filters blocked the prompt or the answer; no account is at fault.",
    ),
    Rule(
        statuses={400},
        cause="invalid-request",
        scope="request",
        action="return",
        reason="The request is invalid; another account would get the same answer.",
    ),
    # -- other refusals
    Rule(
        statuses={401, 403},
        says=f"((oauth|api) [a-z ]{{0,40}}not (allowed|permitted|enabled)( (for|in|by) {_WHOSE})?"
        f"|{_WHOSE} (has been|is) (disabled|suspended)"
        f"|{_WHOSE} does(n't| not) have access to (claude( code)?|(the|this) api))" + _SENTENCE,
        cause="not-allowed",
        scope="account",
        action="fail-over",
        hold="hour",
        reason="The account, or its organization, may not use the API in this way.",
    ),
    replace(_REFUSED, statuses={403}, message=REVOKED, challenge="invalid_token"),
    _REFUSED,
    # OpenAI's error.type is insufficient_quota for each of these; error.code tells them apart.
    Rule(
        statuses={429},
        codes=frozenset(
            {
                "enforced_spend_limit_reached",
                "organization_spend_limit_exceeded",
                "organization_usage_limit_exceeded",
            }
        ),
        says="enforced_spend_limit_reached",
        cause="spend-limit",
        scope="organization",
        action="fail-over",
        hold="indefinite",
        reason="The organization has reached its spend limit.",
    ),
    Rule(
        statuses={429},
        codes=frozenset({"project_spend_limit_exceeded"}),
        cause="spend-limit",
        scope="account",
        action="fail-over",
        hold="indefinite",
        reason="The account's project has reached its spend limit; other projects of the organization still work.",
    ),
    _NO_CREDIT,
    Rule(
        statuses={402, 403, 429},
        # Codes of ChatGPT plans, then of Z.ai's coding plan.
        codes=frozenset({"usage_limit_reached", "1308", "1310", "1316", "1317", "1318", "1319", "1320", "1321"}),
        says=r"(you(['\u2019]ve| have) (reached|hit) your [a-z0-9() -]{0,40}usage limit"
        r"|(the )?usage limit (has been )?reached|weekly/monthly limit exhausted)\b" + _UNQUOTED,
        cause="usage-limit",
        scope="account",
        action="fail-over",
        hold="retry-after",
        otherwise="long",
        reason="The account has reached the usage limit of its plan.",
    ),
    Rule(
        statuses={402},
        cause="billing",
        scope="account",
        action="fail-over",
        hold="long",
        reason="The account has a billing problem.",
    ),
    Rule(
        statuses={403},
        codes=frozenset({MODERATED}),
        cause="moderated",
        scope="request",
        action="return",
        reason="The vendor's moderation flagged the prompt; no account is at fault.",
    ),
    Rule(
        statuses={403},
        is_page=True,
        cause="blocked",
        scope="provider",
        action="next-provider",
        reason="A proxy in front of the provider refused the request with its own page.",
    ),
    Rule(
        statuses={403},
        cause="forbidden",
        scope="account",
        models="model",
        action="fail-over",
        hold="long",
        reason="The account may not use this model.",
    ),
    Rule(
        statuses={404},
        cause="not-found",
        scope="account",
        models="model",
        action="hop",
        hold="later",
        reason="There is no such model or address, or this account can't see it.",
    ),
    Rule(
        statuses={408, 504},
        cause="timeout",
        scope="provider",
        action="retry",
        reason="The provider took too long.",
    ),
    Rule(
        statuses={409},
        cause="conflict",
        scope="request",
        action="return",
        reason="The request conflicts with another one.",
    ),
    Rule(
        statuses={413},
        codes=frozenset({"rate_limit_exceeded"}),
        cause="above-plan",
        scope="account",
        models="model",
        action="hop",
        reason="The request has more tokens than the account's plan allows in a minute.",
    ),
    Rule(
        statuses={413},
        cause="too-large",
        scope="request",
        action="return",
        reason="The request is too large for the provider.",
    ),
    # -- 429
    Rule(
        statuses={429},
        codes=frozenset({NO_QUOTA}),
        cause="no-quota",
        scope="account",
        models="model",
        action="fail-over",
        hold="long",
        reason="The account's project has no quota for this model.",
    ),
    Rule(
        statuses={429},
        codes=frozenset({QUOTA_OF_DAY}),
        cause="daily-quota",
        scope="account",
        models="model",
        action="fail-over",
        hold="long",
        reason="The account's project has used up the day's quota for this model.",
    ),
    Rule(
        statuses={429},
        codes=frozenset({QUOTA}),
        cause="rate-limit",
        scope="account",
        models="model",
        action="fail-over",
        hold="retry-after",
        reason="The rate limit of the account's project for this model is reached.",
    ),
    replace(_OVERLOADED, statuses={429}, codes=frozenset({"queue_exceeded"})),
    Rule(
        statuses={429},
        evidence="window",
        cause="window",
        scope="account",
        action="fail-over",
        hold="window",
        reason="The account has used up its {windows}.",
    ),
    Rule(
        statuses={429},
        evidence="family-window",
        cause="window",
        scope="account",
        models="family",
        action="fail-over",
        hold="window",
        reason="The account has used up its {windows}, which is for a family of models.",
    ),
    Rule(
        statuses={429},
        evidence="rejected",
        cause="rejected",
        scope="account",
        action="fail-over",
        hold="retry-after",
        reason="The account's subscription is limited; the answer names no window.",
    ),
    Rule(
        statuses={429},
        evidence="allowed",
        cause="throttled",
        scope="transient",
        action="hop",
        reason="The account is within its limits; the refusal is temporary, or concerns this machine's address.",
    ),
    replace(_RATE_LIMIT, evidence="counted"),
    replace(
        _RATE_LIMIT,
        codes=frozenset(
            {"rate_limit_exceeded", "request_quota_exceeded", "token_quota_exceeded", "minimax-1002", "minimax-1039"}
        ),
        says="rate limit exceeded: (free-models|limit_)",
    ),
    Rule(
        statuses={429},
        cause="unexplained",
        scope="request",
        action="hop",
        reason="The provider refused the request and named no limit; no account is at fault.",
    ),
    # -- errors of the provider
    Rule(
        statuses={508},
        cause="loop",
        scope="request",
        action="return",
        reason="The upstream sent the request back to a gateway that had sent it; a retry would loop again.",
    ),
    _OVERLOADED,
    Rule(
        statuses=range(500, 600),
        codes=frozenset({BROKEN}),
        cause="broken-answer",
        scope="request",
        action="retry-then-hop",
        reason="The model's answer is empty or broken; no account is at fault.",
    ),
    replace(
        _OVERLOADED,
        statuses=range(500, 600),
        codes=frozenset({"overloaded_error", "server_is_overloaded", "slow_down", "UNAVAILABLE"}),
    ),
    Rule(
        statuses=range(500, 600),
        is_page=True,
        cause="provider-error",
        scope="provider",
        action="next-provider",
        hold="back-off",
        reason="A proxy in front of the provider failed and answered with its own page.",
    ),
    Rule(
        statuses=range(500, 600),
        cause="provider-error",
        scope="provider",
        action="next-provider",
        hold="back-off",
        reason="The provider failed.",
    ),
    Rule(
        statuses=range(1000),
        cause="unknown",
        scope="request",
        action="return",
        reason="The status says nothing about an account or the provider.",
    ),
)

# The status that an error in a stream would have had as a whole answer.
STATUS_OF_ERROR: Final = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "timeout_error": 504,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "insufficient_quota": 429,
    "rate_limit_exceeded": 429,
    "usage_limit_reached": 429,
    "exceeded_current_quota_error": 429,
    "overloaded_error": 529,
    "server_is_overloaded": 529,
    "request_quota_exceeded": 429,
    "token_quota_exceeded": 429,
    "queue_exceeded": 429,
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
    "minimax-1001": 504,
    "minimax-1002": 429,
    "minimax-1004": 401,
    "minimax-1008": 402,
    "minimax-1039": 429,
    "minimax-2013": 400,
}
