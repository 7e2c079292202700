"""Each row of the table of what an answer means, as the way of a request."""

import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool import runs as j
from tokenferry.cli._raw_answer import read_raw_answer
from tokenferry.credentials import Kind
from tokenferry.errors import extract_login_url_from_error
from tokenferry.limits import classify, read_limits
from tokenferry.pool import AccountGroup, Criteria, Forward, PoolAccount, SendAttempt, Target, WaitOver
from tokenferry.pool._steps import text_headers
from tokenferry.pool._unconfirmed import may_be_the_requests
from tokenferry.settings import PoolSettings

ANSWERS = Path(__file__).parents[1] / "limits" / "answers"

# Three accounts at the first provider, two at the second; every one of them answers the same.
WAYS = {
    "return": ["a"],
    "refresh": ["a", "b", "c", "d", "e"],
    "fail-over": ["a", "b", "c", "d", "e"],
    "hop": ["a", "b", "d", "e"],
    "retry": ["a", "d", "d"],
    "retry-then-hop": ["a", "a", "b", "d", "d", "e"],
    "next-provider": ["a", "d"],
}


def two_providers() -> list[Target]:
    return [Target(j.group("one", "a", "b", "c"), j.SONNET), Target(j.group("two", "d", "e"), j.SONNET)]


@pytest.mark.parametrize("name", sorted(path.stem for path in ANSWERS.glob("*.http")))
def test_every_recorded_answer_leads_where_its_action_says(name: str) -> None:
    answer = read_raw_answer((ANSWERS / f"{name}.http").read_bytes())
    wire_format = json.loads((ANSWERS / f"{name}.json").read_text()).get("format", "anthropic")
    assert answer.sent_at is not None
    error = classify(answer.status, answer.headers, answer.body, now=answer.sent_at, provider_format=wire_format)
    rig = j.Rig()
    rig.clock.wall = answer.sent_at
    targets = [
        Target(AccountGroup(target.group.provider, target.group.accounts, wire_format=wire_format), target.model)
        for target in two_providers()
    ]
    headers = tuple((key.encode(), value.encode("latin-1", "replace")) for key, value in answer.headers.items())
    said = j.Reply(answer.status, headers, answer.body)
    run = rig.run(targets=targets)
    tried: list[str] = []
    while isinstance(step := run.next(), SendAttempt):
        rig.clock.pass_by(step.wait)
        tried.append(step.account.name)
        run.answered(said.status, said.headers, said.body)
    way = WAYS[error.action]
    wait = read_limits(answer.headers, now=answer.sent_at, provider_format=wire_format).retry_after
    if answer.headers.get("x-should-retry") == "false" or (wait or 0) > 10:
        way = list(dict.fromkeys(way))  # nothing is sent again in place
    assert tried == way
    is_benching = error.hold not in {"none", "later"} and error.scope in {"account", "organization", "credential"}
    is_of_one_organization = error.scope == "organization" and any("organization" in key for key in answer.headers)
    is_doubtful = may_be_the_requests(error) and error.action != "refresh" and not is_of_one_organization
    if is_benching and error.action == "fail-over" and not is_doubtful:
        assert j.refusal(step).cause == "exhausted"
    else:
        j.giving(step)
    # A provider's trouble, or the request's own, counts against no account; what may be the request's own fault, not
    # against the last one.
    for target in targets:
        choice = rig.pool.selector.report(target, j.ANY)
        cooling = {one.account for one in choice.passed_over if one.cause}
        expected = set(tried) if is_benching else set()
        if is_doubtful:
            expected -= {"e"}
        assert cooling == expected & set(target.group.by_name)


def way(targets: Sequence[Target], *replies: j.Reply, criteria: Criteria = j.ANY) -> tuple[list[str], j.End]:
    rig = j.Rig()
    return j.travel(rig.run(criteria, targets), replies, rig.clock)


def test_a_good_answer_ends_it() -> None:
    assert way(two_providers(), j.OK) == (["a"], None)


def test_an_overloaded_provider_is_tried_once_more_in_place_then_by_one_other_account_then_left() -> None:
    tried, step = way(two_providers(), *[j.OVERLOADED] * 5, j.OK)
    assert (tried, step) == (["a", "a", "b", "d", "d", "e"], None)


def test_where_there_is_nothing_else_an_overloaded_provider_is_tried_twice_in_place() -> None:
    tried, step = way([Target(j.group("one", "a"), j.SONNET)], *[j.OVERLOADED] * 3)
    assert tried == ["a", "a", "a"]
    j.giving(step)


def test_waits_in_place_have_jitter_and_grow() -> None:
    waits = set()
    for seed in range(8):
        rig = j.Rig(("a",), seed=seed)
        run = rig.run()
        run.next()
        seen = []
        for _ in range(2):
            j.reply(run, j.OVERLOADED)
            seen.append(j.trying(run.next()).wait)
        assert 0.5 <= seen[0] <= 1.0 <= seen[1] <= 2.0
        waits.add(tuple(seen))
    assert len(waits) == 8


def test_an_overloaded_provider_that_names_a_wait_is_given_it_if_it_is_short() -> None:
    rig = j.Rig(("a",))
    run = rig.run()
    run.next()
    j.reply(run, j.Reply(529, ((b"retry-after", b"4"),)))
    assert j.trying(run.next()).wait >= 4
    tried = run.trace.to_json()["steps"][2]
    assert tried["wait_why"] == "it asked to wait 4 s; up to a quarter is added"
    assert 4000 <= tried["wait_ms"] <= 5000
    j.reply(run, j.Reply(529, ((b"retry-after", b"40"),)))
    j.giving(run.next())


def test_an_overload_counts_against_no_account() -> None:
    rig = j.Rig(("a", "b"))
    j.travel(rig.run(), [j.OVERLOADED] * 3, rig.clock)
    assert rig.serve() == ["a"]
    assert not rig.pool.cooldowns.changes


def test_a_429_without_a_cause_tries_one_other_account_then_the_next_target_and_starts_no_cooldown() -> None:
    tried, step = way(two_providers(), *[j.UNEXPLAINED] * 4)
    assert tried == ["a", "b", "d", "e"]
    j.giving(step)
    rig = j.Rig()
    assert rig.serve(j.ANY, j.UNEXPLAINED) == ["a", "b"]
    assert rig.serve() == ["a"]


@pytest.mark.parametrize("answer", [j.UNEXPLAINED, j.THROTTLED], ids=["unexplained", "throttled"])
@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=5))
def test_a_hop_inside_a_provider_never_uses_up_the_step_to_the_next_target(answer: j.Reply, sizes: list[int]) -> None:
    """Each target is asked by one account and one sibling at most; the answer passes where no target is left."""
    names = [[f"{at}{number}" for number in range(size)] for at, size in enumerate(sizes)]
    targets = [Target(j.group(f"provider{at}", *own), j.SONNET) for at, own in enumerate(names)]
    expected = [name for own in names for name in own[:2]]
    tried, step = way(targets, *[answer] * len(expected))
    assert tried == expected
    j.giving(step)
    assert way(targets, *[answer] * (len(expected) - 1), j.OK) == (expected, None)


def test_a_missing_model_and_a_failed_provider_lead_to_the_next_provider() -> None:
    assert way(two_providers(), j.FAILED, j.OK) == (["a", "d"], None)
    assert way(two_providers(), j.MISSING, j.MISSING, j.OK) == (["a", "b", "d"], None)


def test_the_last_answer_is_given_where_no_provider_is_left() -> None:
    tried, step = way(two_providers(), j.FAILED, j.MISSING, j.MISSING)
    assert tried == ["a", "d", "e"]
    j.giving(step)


def test_a_slow_provider_is_left_or_asked_once_more() -> None:
    assert way(two_providers(), j.SLOW, j.OK) == (["a", "d"], None)
    tried, step = way([Target(j.group("one", "a", "b"), j.SONNET)], j.SLOW, j.SLOW)
    assert tried == ["a", "a"]
    j.giving(step)


def test_a_failed_provider_comes_later_for_a_moment_and_is_still_asked_where_nothing_else_is() -> None:
    rig = j.Rig()
    rig.pool.rng.seed(3)
    both = two_providers()
    for _ in range(6):  # so that the back-off is long enough to be seen
        j.travel(rig.run(targets=both[:1]), [j.FAILED])
    assert rig.serve(targets=both) == ["d"]
    assert rig.serve(targets=both[:1]) == ["a"]
    rig.clock.pass_by(61)
    assert rig.serve(targets=both) == ["a"]


def test_a_key_that_is_refused_is_benched_and_named_and_others_serve(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tokenferry.pool")
    rig = j.Rig()
    run = rig.run()
    run.next()
    run.fingerprint = "0a1b2c3d"
    j.reply(run, j.REFUSED)
    assert j.trying(run.next()).account.name == "b"
    assert "account a is in cooldown" in caplog.text
    (noted,) = rig.pool.cooldowns.of("account", "a")
    assert (noted.cause, noted.until) == ("refused", None)
    assert "0a1b2c3d" in noted.evidence


def login(kind: Kind = "oauth") -> list[Target]:
    return [Target(AccountGroup("one", (PoolAccount("a", "one", kind), PoolAccount("b", "one", kind))), j.SONNET)]


@pytest.mark.parametrize("kind", ["oauth", "federated"])
def test_a_login_whose_token_is_refused_is_renewed_once_and_then_benched(kind: Kind) -> None:
    rig = j.Rig()
    run = rig.run(targets=login(kind))
    assert not j.trying(run.next()).renew
    j.reply(run, j.REFUSED)
    step = j.trying(run.next())
    assert (step.account.name, step.renew) == ("a", True)
    j.reply(run, j.REFUSED)
    step = j.trying(run.next())
    assert (step.account.name, step.renew) == ("b", False)
    assert [one.cause for one in rig.pool.cooldowns.of("account", "a")] == ["refused"]


def test_a_refreshed_token_that_works_counts_against_no_client() -> None:
    rig = j.Rig()
    assert j.travel(rig.run(targets=login()), [j.REFUSED, j.OK]) == (["a", "a"], None)
    assert not rig.pool.cooldowns.of("account", "a")


def test_a_login_that_has_no_other_token_is_benched() -> None:
    rig = j.Rig()
    run = rig.run(targets=login())
    run.next()
    j.reply(run, j.REFUSED)
    assert j.trying(run.next()).renew
    run.not_renewed("its refresh token is dead")
    assert j.trying(run.next()).account.name == "b"
    assert [one.cause for one in rig.pool.cooldowns.of("account", "a")] == ["refused"]


def test_a_renewal_that_gives_no_other_token_counts_as_no_attempt() -> None:
    rig = j.Rig(settings=PoolSettings(max_attempts=2))
    targets = [Target(j.group("one", "a", "b", kind="oauth"), j.SONNET)]
    run = rig.run(targets=targets)
    for name in ("a", "b"):
        assert j.trying(run.next()).account.name == name
        j.reply(run, j.REFUSED)
        if name == "a":
            assert j.trying(run.next()).renew
            run.not_renewed("its refresh token is dead")
    assert j.refusal(run.next()).message.startswith("gave up after 2 attempts")


def test_a_refusal_never_renews_a_login() -> None:
    rig = j.Rig()
    assert j.travel(rig.run(targets=login()), [j.FORBIDDEN, j.OK]) == (["a", "b"], None)


def test_a_forbidden_model_is_benched_on_that_account_alone() -> None:
    rig = j.Rig()
    assert rig.serve(j.ANY, j.FORBIDDEN) == ["a", "b"]
    assert rig.serve() == ["b"]
    assert rig.serve(targets=[Target(rig.group, "claude-opus-4-5")]) == ["a"]
    assert rig.serve(targets=[Target(rig.group, "claude-sonnet-4-6")]) == ["a"]


def test_a_limited_family_is_limited_for_its_models_alone() -> None:
    rig = j.Rig()
    rig.serve(j.ANY, j.limited(window="7d_sonnet"))
    assert rig.serve(targets=[Target(rig.group, "claude-sonnet-4-6")]) == ["b"]
    assert rig.serve(targets=[Target(rig.group, "claude-opus-4-5")]) == ["a"]


def test_no_connection_is_tried_once_more_and_then_elsewhere() -> None:
    rig = j.Rig()
    run = rig.run(targets=two_providers())
    for name, least, most in (("a", 0, 0), ("d", 0, 0), ("d", 0.25, 0.5)):
        step = j.trying(run.next())
        assert step.account.name == name
        assert least <= step.wait <= most
        run.unsent("connection refused")
    refusal = j.refusal(run.next())
    assert (refusal.status, refusal.cause, refusal.should_retry) == (502, "local_network", True)
    assert "one: connection refused; two: connection refused" in refusal.message
    assert "local network" in refusal.message
    assert not rig.pool.cooldowns.changes


def test_a_provider_that_cannot_be_reached_comes_later_for_a_moment() -> None:
    rig, targets = j.Rig(), two_providers()
    run = rig.run(targets=targets)
    run.next()
    run.unsent("connection refused")
    assert j.trying(run.next()).account.name == "d"
    assert rig.serve(targets=targets) == ["d"]
    rig.clock.pass_by(5)
    assert rig.serve(targets=targets) == ["a"]


def test_what_may_have_been_paid_for_is_sent_nowhere_else() -> None:
    run = j.Rig().run(targets=two_providers())
    run.next()
    run.lost("no answer within 120 s")
    j.giving(run.next())
    j.giving(run.next())


def test_without_a_credential_the_next_account_is_asked_and_it_counts_as_no_attempt() -> None:
    rig = j.Rig(settings=PoolSettings(max_attempts=1))
    run = rig.run()
    assert j.trying(run.next()).account.name == "a"
    run.unavailable("account 'a' needs a login")
    assert j.trying(run.next()).account.name == "b"
    j.reply(run, j.OK)
    assert rig.serve() == ["b"]
    rig.clock.pass_by(2)
    assert rig.serve() == ["a"]


def test_if_no_account_has_a_credential_the_client_gets_that_reason() -> None:
    run = j.Rig(("a", "b")).run()
    for _ in range(2):
        j.trying(run.next())
        run.unavailable("needs a login")
    refusal = j.refusal(run.next())
    assert (refusal.status, refusal.faults) == (503, ("needs a login", "needs a login"))


def test_a_provider_that_cannot_serve_the_request_passes_it_on_and_the_client_learns_why_none_can() -> None:
    rig = j.Rig(settings=PoolSettings(max_attempts=1))
    targets = two_providers()
    run = rig.run(targets=targets)
    run.next()
    run.unfit("it takes no images")
    assert j.trying(run.next()).account.name == "d"
    run.unfit("it takes no tools")
    assert run.trace.attempts == 0
    refusal = j.refusal(run.next())
    assert (refusal.status, refusal.cause) == (400, "unfit")
    assert "(one: it takes no images; two: it takes no tools)" in refusal.message
    run = rig.run(targets=targets)
    run.next()
    run.unfit("it takes no images")
    run.next()
    run.answered(400, j.WRONG.headers, j.WRONG.body)
    j.giving(run.next())


def test_all_exhausted_names_each_account_its_reason_and_the_soonest_end() -> None:
    rig = j.Rig()
    run = rig.run()
    _, step = j.travel(run, [j.limited(9000), j.limited(400_000, window="7d"), j.BROKE])
    refusal = j.refusal(step)
    assert (refusal.status, refusal.kind, refusal.cause) == (429, "rate_limit_error", "exhausted")
    assert refusal.retry_after is not None
    assert 9001 <= refusal.retry_after <= 9031
    assert not refusal.should_retry
    assert refusal.message.startswith(
        "no account can serve this now (a: the account has used up its window 5h, until 2027-01-15 10:30:"
    )
    assert "b: the account has used up its window 7d, until 2027-01-19 " in refusal.message
    assert "c: the account has no credit left; buy some)" in refusal.message
    assert refusal.message.endswith("; try again in 2 h 31 min"), "9001 to 9031 s"


@pytest.mark.parametrize(("seconds", "may_wait"), [(7, True), (60, True), (61, False)])
def test_a_short_wait_may_be_waited_for(seconds: int, may_wait: bool) -> None:  # noqa: FBT001
    _, step = j.travel(j.Rig(("a", "b")).run(), [j.busy(seconds), j.busy(90)])
    refusal = j.refusal(step)
    assert (refusal.retry_after, refusal.should_retry) == (seconds, may_wait)


def test_an_account_that_may_answer_at_once_has_no_end_and_asks_for_the_least_wait() -> None:
    refusal = j.refusal(way([Target(j.group("one", "a", "b"), j.SONNET)], j.UNEXPLAINED, j.limited())[1])
    assert refusal.retry_after == 1
    assert refusal.message.startswith(
        "no account can serve this now (a: it answered 429, the provider refused the request and named no limit; "
        "no account is at fault; b: the account has used up its window 5h, until 2027-01-15 10:30:"
    )


def test_the_wait_for_a_credential_counts_among_the_ends() -> None:
    run = j.Rig(("a", "b")).run()
    run.next()
    run.unavailable("its command has failed", 20)
    run.next()
    j.reply(run, j.limited())
    assert j.refusal(run.next()).retry_after == 20


def test_the_first_twenty_accounts_are_named_and_the_others_counted() -> None:
    rig = j.Rig([f"a{number}" for number in range(22)], settings=PoolSettings(max_attempts=30))
    message = j.refusal(j.travel(rig.run(), [j.limited()] * 22)[1]).message
    assert message.count(": the account has used up its window") == 20
    assert "; and 2 more)" in message


def test_where_all_accounts_are_paused_no_login_is_asked_for() -> None:
    targets = [Target(j.group("one", "a", "b", paused_until=math.inf), j.SONNET)]
    refusal = j.refusal(way(targets)[1])
    assert (refusal.status, refusal.cause) == (503, "no_usable_account")
    assert refusal.message.endswith(")")


@pytest.mark.parametrize("is_whole", [True, False])
def test_an_error_that_passes_holds_its_slot_until_it_is_read(is_whole: bool) -> None:  # noqa: FBT001
    for answers, holds in (([j.WRONG], True), ([j.UNEXPLAINED], not is_whole)):
        rig = j.Rig(("a",))
        run = rig.run()
        for one in answers:
            j.trying(run.next())
            run.answered(one.status, one.headers, one.body, is_whole=is_whole)
        j.giving(run.next())
        assert bool(rig.pool.capacity.busy) is holds
        run.close()
        assert not rig.pool.capacity.busy


def test_what_is_lost_holds_its_slot_until_its_driver_has_ended_it() -> None:
    rig = j.Rig(("a",))
    run = rig.run()
    run.next()
    run.lost("no answer within 120 s")
    j.giving(run.next())
    assert rig.pool.capacity.busy == {"a": 1}
    run.close()
    assert not rig.pool.capacity.busy


def test_accounts_that_the_key_may_not_use_are_not_named() -> None:
    criteria = Criteria(allowed=frozenset("ab"))
    _, step = way(two_providers(), j.limited(), j.limited(), criteria=criteria)
    message = j.refusal(step).message
    assert "a: " in message
    assert "b: " in message
    assert not any(f"{name}: " in message for name in "cde")


def test_a_key_that_may_use_none_of_them_gets_an_error_that_says_so() -> None:
    refusal = j.refusal(way(two_providers(), criteria=Criteria(allowed=frozenset("x")))[1])
    assert (refusal.status, refusal.cause) == (403, "no_allowed_account")


def test_the_only_account_there_is_answers_in_its_own_words() -> None:
    tried, step = way([Target(j.group("one", "a"), j.SONNET)], j.limited())
    assert tried == ["a"]
    j.giving(step)


def test_a_pinned_account_is_the_only_one_that_is_used() -> None:
    rig = j.Rig()
    criteria = Criteria("s", pinned="b")
    assert rig.serve(criteria) == ["b"]
    run = rig.run(criteria)
    tried, step = j.travel(run, [j.limited()])
    assert tried == ["b"]
    j.giving(step)
    refusal = j.refusal(rig.run(criteria).next())
    assert "b: " in refusal.message
    assert "a: " not in refusal.message


def test_attempts_are_bounded() -> None:
    rig = j.Rig([f"a{number}" for number in range(30)], settings=PoolSettings(max_attempts=4))
    tried, step = j.travel(rig.run(), [j.limited()] * 9)
    assert len(tried) == 4
    refusal = j.refusal(step)
    assert (refusal.status, refusal.cause, refusal.retry_after, refusal.should_retry) == (529, "gave_up", 1, True)


def test_time_is_bounded() -> None:
    rig = j.Rig(settings=PoolSettings(total_timeout=10))
    run = rig.run()
    run.next()
    rig.clock.pass_by(11)
    j.reply(run, j.limited())
    assert j.refusal(run.next()).message.startswith("gave up after 1 attempts in 11 s")


def test_after_the_first_content_nothing_is_ever_tried() -> None:
    rig = j.Rig()
    run = rig.run()
    run.next()
    j.reply(run, j.OK)
    assert isinstance(run.next(), Forward)
    run.close()
    with pytest.raises(StopIteration):
        run.failover.send(WaitOver())


def test_an_overload_inside_a_stream_still_goes_elsewhere() -> None:
    body = (
        b'event: message_start\ndata: {"type":"message_start"}\n\n'
        b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
    )
    stream = j.Reply(200, ((b"content-type", b"text/event-stream"),), body)
    assert way(two_providers(), stream, stream, stream, j.OK)[0] == ["a", "a", "b", "d"]


def test_the_limits_of_token_counting_start_no_cooldown() -> None:
    rig = j.Rig()
    side = Criteria(side="/v1/messages/count_tokens")
    assert rig.serve(side, j.busy(900)) == ["a", "b"]
    assert rig.serve() == ["a"]
    assert rig.serve(side, j.BROKE) == ["b", "c"]
    assert rig.serve() == ["a"]


def test_a_story_tells_all_of_it() -> None:
    rig = j.Rig()
    rig.serve(j.ANY, j.limited())
    run = rig.run()
    run.next()
    run.fingerprint = "0a1b2c3d"
    j.reply(run, j.OVERLOADED)
    wait = j.trying(run.next()).wait
    rig.clock.pass_by(0.5)
    run.unsent("connection reset")
    run.next()
    j.reply(run, j.OK)
    run.close()
    told = run.trace.to_json()
    assert json.loads(json.dumps(told)) == told
    assert told["candidates"] == ["a", "b", "c"]
    assert [one["account"] for one in told["passed_over"]] == ["a"]
    assert told["passed_over"][0]["cause"] == "window"
    assert told["passed_over"][0]["why"] == "The account has used up its window 5h."
    assert [(one["account"], one["status"]) for one in told["attempts"]] == [("b", 529), ("b", None), ("b", 200)]
    assert [one["ms"] for one in told["steps"]] == [0, 0, 0, 500, 500, 500]
    assert not any("probe" in one for one in told["steps"])
    assert [(one["what"], one["account"]) for one in told["steps"]] == [
        ("tried", "b"),
        ("answered", "b"),
        ("tried", "b"),
        ("unsent", "b"),
        ("tried", "b"),
        ("served", "b"),
    ]
    assert told["steps"][1] | {"ms": 0} == {
        "ms": 0,
        "what": "answered",
        "account": "b",
        "fingerprint": "0a1b2c3d",
        "status": 529,
        "plan": "again",
        "cause": "overloaded",
        "scope": "provider",
        "means": "The provider is overloaded; no account is at fault.",
    }
    assert told["steps"][2]["wait_ms"] == round(wait * 1000) >= 500
    assert told["steps"][3]["why"] == "connection reset"


def test_a_story_of_which_nothing_was_sent_names_every_reason() -> None:
    rig = j.Rig(("a", "b"))
    j.travel(rig.run(), [j.limited(), j.BROKE])
    run = rig.run()
    assert j.refusal(run.next()).cause == "exhausted"
    told = run.trace.to_json()
    assert [(one["account"], one["cause"]) for one in told["passed_over"]] == [("a", "window"), ("b", "no-credit")]
    assert [one["what"] for one in told["steps"]] == ["refused"]
    assert not run.trace.is_ordinary


def test_only_a_request_that_its_first_attempt_served_is_ordinary() -> None:
    for answers, is_ordinary in (((j.OK,), True), ((j.WRONG,), False), ((j.MISSING, j.OK), False)):
        run = j.Rig().run()
        j.travel(run, answers)
        assert run.trace.is_ordinary is is_ordinary


def test_a_story_names_the_probe() -> None:
    rig = j.Rig(("a", "b"))
    rig.serve(j.ANY, j.limited())
    rig.clock.pass_by(61)
    run = rig.run()
    run.next()
    assert run.trace.to_json()["steps"][0]["probe"] is True


def test_a_refused_token_whose_renewal_is_not_possible_now_is_no_answer() -> None:
    run = j.Rig().run(targets=[Target(j.group("one", "a", kind="oauth"), j.SONNET)])
    run.next()
    j.reply(run, j.REFUSED)
    assert j.trying(run.next()).renew
    run.unavailable("its vendor can't be reached")
    assert j.refusal(run.next()).cause == "unavailable"
    assert run.trace.attempts == 1


def test_an_answer_passes_where_another_account_has_no_credential() -> None:
    run = j.Rig(("a", "b")).run()
    run.next()
    j.reply(run, j.UNEXPLAINED)
    assert j.trying(run.next()).account.name == "b"
    run.unavailable("needs a login")
    j.giving(run.next())


def test_several_challenges_are_joined_and_none_is_made_up() -> None:
    name = b"www-authenticate"
    assert text_headers(((name, b"Bearer"), (b"a", b"1"), (name, b"Basic"))) == {
        "www-authenticate": "Bearer, Basic",
        "a": "1",
    }
    assert text_headers(((b"a", b"1"),)) == {"a": "1"}


def test_closing_it_twice_leaves_nothing_behind() -> None:
    rig = j.Rig()
    run = rig.run()
    run.next()
    assert rig.pool.capacity.busy == {"a": 1}
    run.close()
    run.close()
    assert not rig.pool.capacity.busy


def test_where_every_account_takes_a_person_waiting_is_not_asked_for() -> None:
    rig = j.Rig(("a", "b"))
    first = rig.run()
    j.trying(first.next())
    j.reply(first, j.REFUSED)
    j.trying(first.next())
    first.unavailable("its login is dead. Please log in: https://login.example/b")
    first.close()
    rig.clock.pass_by(1)
    run = rig.run()
    assert j.trying(run.next()).account.name == "b"
    run.unavailable("its login is dead. Please log in: https://login.example/b")
    refusal = j.refusal(run.next())
    assert (refusal.status, refusal.kind, refusal.cause) == (503, "api_error", "no_usable_account")
    assert (refusal.retry_after, refusal.should_retry) == (None, False)
    assert "a: the credential was refused" in refusal.message
    assert refusal.message.endswith("; log in again with: tokenferry login NAME, or store another key")
    assert extract_login_url_from_error(refusal.message) == "https://login.example/b"


@pytest.mark.parametrize("one", [j.limited(7200), j.BROKE, j.UNPAID])
def test_where_one_is_limited_or_recovers_by_itself_it_is_still_worth_waiting(one: j.Reply) -> None:
    rig = j.Rig(("a", "b"))
    j.travel(rig.run(), [j.REFUSED, one])
    assert j.refusal(rig.run().next()).cause == "exhausted"
