"""What each rule costs at most if it is wrong: the widest scope and the longest time. docs/limits.md says the same."""

import math
import re
from pathlib import Path
from random import Random
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenferry.limits import Classification, CooldownRule, Models, Scope, classify, cooldown_until
from tokenferry.limits._rules import AFTER_CONTENT, REVOKED, RULES, Rule

DOCS: Final = Path(__file__).parents[2] / "docs" / "limits.md"
NOW: Final = 1_800_000_000.0
NOTHING: Final = 0.0
MINUTE: Final = 60.0
HOUR: Final = 3600.0
MONTH: Final = 31 * 86_400.0
WINDOW: Final = 7 * 86_400.0 + 30
YEAR: Final = 366 * 86_400.0
WITHOUT_END: Final = math.inf

# By cause: the scope and models that the answer names, and the longest time it may cost. A wait that an answer names
# holds as it says (`retry-after`: a year at most, beyond which it isn't read).
WIDEST: Final[dict[tuple[str, Scope, Models], float]] = {
    ("page", "request", "all"): NOTHING,
    ("ok", "request", "all"): NOTHING,
    ("after-content", "request", "all"): NOTHING,
    ("no-credit", "account", "all"): WITHOUT_END,
    ("no-extra-usage", "account", "all"): HOUR,
    ("claude-code-only", "credential", "all"): WITHOUT_END,
    ("organization-disabled", "organization", "all"): WITHOUT_END,
    ("usage-limit", "organization", "all"): MONTH,
    ("usage-limit", "account", "all"): YEAR,
    ("no-long-context", "account", "model"): NOTHING,
    ("prompt-too-long", "request", "model"): NOTHING,
    ("invalid-request", "request", "all"): NOTHING,
    ("not-allowed", "account", "all"): HOUR,
    ("refused", "credential", "all"): WITHOUT_END,
    ("billing", "account", "all"): HOUR,
    ("blocked", "provider", "all"): NOTHING,
    ("forbidden", "account", "model"): HOUR,
    ("not-found", "account", "model"): NOTHING,
    ("timeout", "provider", "all"): NOTHING,
    ("conflict", "request", "all"): NOTHING,
    ("too-large", "request", "all"): NOTHING,
    ("spend-limit", "organization", "all"): WITHOUT_END,
    ("window", "account", "all"): YEAR,
    ("window", "account", "family"): YEAR,
    ("rejected", "account", "all"): YEAR,
    ("throttled", "transient", "all"): NOTHING,
    ("rate-limit", "organization", "family"): YEAR,
    ("unexplained", "request", "all"): NOTHING,
    ("loop", "request", "all"): NOTHING,
    ("moderated", "request", "all"): NOTHING,
    ("above-plan", "account", "model"): NOTHING,
    ("filtered", "request", "all"): NOTHING,
    ("no-quota", "account", "model"): HOUR,
    ("daily-quota", "account", "model"): HOUR,
    ("rate-limit", "account", "model"): YEAR,
    ("broken-answer", "request", "all"): NOTHING,
    ("spend-limit", "account", "all"): WITHOUT_END,
    ("overloaded", "provider", "model"): NOTHING,
    ("provider-error", "provider", "all"): MINUTE,
    ("unknown", "request", "all"): NOTHING,
}
NAMED: Final[dict[CooldownRule, float]] = {"window": WINDOW, "retry-after": YEAR, "date": MONTH}
ALL: Final = (*RULES, AFTER_CONTENT)


def place(one: Rule | Classification) -> tuple[str, Scope, Models]:
    return one.cause, one.scope, one.models


def span(verdict: Classification, failures: int, seed: int = 0) -> float:
    until = cooldown_until(verdict, now=NOW, failures=failures, rng=Random(seed))
    return math.inf if until is None else until - NOW


def holds_of(rule: Rule) -> list[CooldownRule]:
    """What it may come to, by what the answer names."""
    match rule.hold:
        case "window":
            return ["window", "retry-after", rule.otherwise]
        case "retry-after" | "date":
            return [rule.hold, rule.otherwise]
        case _:
            return [rule.hold]


def test_every_rule_has_its_widest_scope_and_longest_time() -> None:
    assert {place(rule) for rule in ALL} == set(WIDEST)


@pytest.mark.parametrize("rule", ALL, ids=lambda rule: f"{rule.cause}-{rule.scope}")
def test_no_rule_costs_more(rule: Rule) -> None:
    for hold in holds_of(rule):
        until = NOW + NAMED[hold] if hold in NAMED else None
        verdict = Classification(rule.scope, rule.models, rule.cause, rule.action, hold, until, "")
        spans = [span(verdict, failures) for failures in range(64)]
        assert max(spans) <= WIDEST[place(rule)] + 31 * (hold == "window")
        if hold not in NAMED and math.isfinite(max(spans)):
            assert spans[0] <= MINUTE or hold == "hour", "what names no end begins with a minute at most"
            assert max(spans) <= HOUR


def test_only_the_listed_kinds_are_without_end() -> None:
    endless = {rule.cause for rule in ALL if {"indefinite", "login"} & {rule.hold, rule.otherwise}}
    assert endless == {"no-credit", "spend-limit", "refused", "organization-disabled", "claude-code-only"}
    whole_hours = {rule.cause for rule in ALL if "hour" in holds_of(rule)}
    assert whole_hours == {"not-allowed", "usage-limit"}


WORDS: Final = [
    *REVOKED,
    "This organization has been disabled.",
    "You have reached your specified API usage limits. You will regain access on 2027-02-01 at 00:00 UTC.",
    "You have reached your specified API usage limits. You will regain access on 2099-02-01 at 00:00 UTC.",
    "Your credit balance is too low",
    "The usage limit has been reached",
    "anything",
]
CODES: Final = ["usage_limit_reached", "insufficient_quota", "enforced_spend_limit_reached", "overloaded_error", "x"]


@given(
    st.sampled_from([200, 400, 401, 402, 403, 404, 408, 409, 413, 429, 500, 503, 529]),
    st.dictionaries(
        st.sampled_from(
            [
                "retry-after",
                "anthropic-ratelimit-unified-status",
                "anthropic-ratelimit-unified-reset",
                "anthropic-ratelimit-unified-5h-status",
                "anthropic-ratelimit-unified-5h-reset",
                "anthropic-ratelimit-unified-7d_sonnet-status",
                "anthropic-ratelimit-unified-7d_sonnet-reset",
                "anthropic-ratelimit-tokens-reset",
                "www-authenticate",
            ]
        ),
        st.sampled_from(["rejected", "allowed", "30", "1800010000", "4000000000", 'Bearer error="invalid_token"']),
    ),
    st.sampled_from(WORDS),
    st.sampled_from(CODES),
    st.integers(0, 100),
)
def test_no_answer_costs_more_than_it_names(
    status: int, headers: dict[str, str], words: str, code: str, failures: int
) -> None:
    body = f'{{"error": {{"type": "{code}", "message": "{words}", "resets_at": 4000000000}}}}'.encode()
    verdict = classify(status, headers, body, now=NOW, provider_format="anthropic")
    longest = WIDEST[place(verdict)]
    taken = span(verdict, failures)
    named = [float(value) for value in headers.values() if value.isdigit()]
    if longest == YEAR:  # only what the answer itself names, and never beyond the window's length
        wait = float(headers["retry-after"]) if headers.get("retry-after", "").isdigit() else 0.0
        longest = max(HOUR, min(wait, YEAR), WINDOW if any(one > NOW for one in named) else 0.0)
    assert taken <= longest + 31


# -- the table in the documentation

STATUSES: Final = {"range(200, 300)": "2xx", "range(500, 600)": "5xx", "range(0, 1000)": "others", "()": "2xx"}
MODELS: Final[dict[Models, str]] = {"all": "", "family": ", for the family", "model": ", for the model"}
TIMES: Final[dict[CooldownRule, str]] = {
    "none": "",
    "later": "",
    "window": "until its reset",
    "retry-after": "as long as it says",
    "date": "until its date within 31 days",
    "back-off": "1 s, doubled up to 60 s",
    "long": "60 s, doubled up to 1 h",
    "hour": "1 h",
    "indefinite": "without end",
    "login": "until its next login or key",
}


def row_of(rule: Rule) -> tuple[str, ...]:
    named = STATUSES.get(str(rule.statuses))
    statuses = named or ", ".join(str(status) for status in range(1000) if status in rule.statuses)
    time = ", else ".join(filter(None, (TIMES[hold] for hold in holds_of(rule))))
    return statuses, rule.scope + MODELS[rule.models], f"`{rule.cause}`", f"`{rule.action}`", time


def test_the_documentation_has_the_table() -> None:
    """In its order, with what each rule costs at most. The second column is in words of its own."""
    section = re.split(r"^## ", DOCS.read_text(), flags=re.MULTILINE)[1]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    assert rows[0] == ["status", "message", "scope", "cause", "action", "cooldown at most"]
    assert [(row[0], *row[2:]) for row in rows[2:]] == [row_of(rule) for rule in ALL]
    assert all(len(row) == len(rows[0]) for row in rows)


def test_the_documentation_says_what_each_action_does() -> None:
    assert set(re.findall(r"^- `([a-z-]+)`: ", DOCS.read_text(), flags=re.MULTILINE)) == {rule.action for rule in ALL}
