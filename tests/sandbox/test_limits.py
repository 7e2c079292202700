from collections.abc import Callable
from datetime import UTC, datetime

import httpx2
import pytest

from tokenferry.sandbox import Sandbox

Say = Callable[..., httpx2.Response]
Headers = Callable[[str], dict[str, str]]
UNIFIED = "anthropic-ratelimit-unified-"


@pytest.fixture
def subscriber(sandbox: Sandbox, bearer: Headers) -> dict[str, str]:
    return bearer(sandbox.setup_token("alice"))


def unified(answer: httpx2.Response) -> dict[str, str]:
    return {name.removeprefix(UNIFIED): value for name, value in answer.headers.items() if name.startswith(UNIFIED)}


def test_a_subscription_hears_of_its_windows_in_epoch_seconds(
    say: Say,
    sandbox: Sandbox,
    subscriber: dict[str, str],
) -> None:
    answer = say(headers=subscriber)
    found = unified(answer)
    assert (found["status"], found["5h-status"], found["7d-status"]) == ("allowed", "allowed", "allowed")
    assert (found["representative-claim"], found["fallback-percentage"]) == ("five_hour", "0.5")
    assert 0 < int(found["5h-reset"]) - sandbox.now() <= 18_000
    assert 0 < int(found["7d-reset"]) - sandbox.now() <= 604_800
    assert (found["overage-status"], found["overage-disabled-reason"]) == ("rejected", "out_of_credits")
    assert "anthropic-ratelimit-requests-limit" not in answer.headers


def test_an_api_key_hears_of_its_buckets_in_rfc_3339(say: Say) -> None:
    answer = say()
    assert not unified(answer)
    for name in ("requests", "tokens", "input-tokens", "output-tokens"):
        head = f"anthropic-ratelimit-{name}-"
        assert int(answer.headers[head + "remaining"]) < int(answer.headers[head + "limit"])
        datetime.strptime(answer.headers[head + "reset"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def test_a_rejected_window_refuses_until_its_reset(say: Say, sandbox: Sandbox, subscriber: dict[str, str]) -> None:
    sandbox.settings("alice", limits={"7d": {"status": "rejected", "reset_in": 3600}})
    refused = say(headers=subscriber)
    found = unified(refused)
    assert (refused.status_code, refused.json()["error"]["type"]) == (429, "rate_limit_error")
    assert 3590 <= int(refused.headers["retry-after"]) <= 3600
    assert (found["status"], found["representative-claim"], found["7d-utilization"]) == ("rejected", "seven_day", "1.0")
    assert found["reset"] == found["7d-reset"]
    assert found["5h-status"] == "allowed"
    assert say().status_code == 200, "an API key has limits of its own"
    sandbox.advance(3601)
    assert say(headers=subscriber).status_code == 200


def test_of_two_rejected_windows_the_later_reset_counts(
    say: Say,
    sandbox: Sandbox,
    subscriber: dict[str, str],
) -> None:
    rejected = {"status": "rejected"}
    sandbox.settings("alice", limits={"5h": rejected | {"reset_in": 100}, "7d": rejected | {"reset_in": 200}})
    assert int(say(headers=subscriber).headers["retry-after"]) > 100


def test_a_window_of_a_model_family_refuses_that_family_alone(
    say: Say,
    sandbox: Sandbox,
    subscriber: dict[str, str],
) -> None:
    sandbox.settings("alice", limits={"7d_sonnet": {"status": "rejected", "reset_in": 60}})
    assert say(headers=subscriber, model="claude-sonnet-4-5").status_code == 429
    other = say(headers=subscriber, model="claude-opus-4-5")
    assert other.status_code == 200
    assert unified(other)["status"] == "allowed"
    assert unified(other)["7d_sonnet-status"] == "rejected"


def test_much_used_windows_warn(say: Say, sandbox: Sandbox, subscriber: dict[str, str]) -> None:
    sandbox.settings("alice", limits={"5h": {"utilization": 0.95, "surpassed_threshold": 0.9}})
    found = unified(say(headers=subscriber))
    assert (found["status"], found["5h-status"], found["5h-surpassed-threshold"]) == (
        "allowed_warning",
        "allowed_warning",
        "0.9",
    )


def test_overage_lets_a_rejected_request_pass_as_paid(say: Say, sandbox: Sandbox, subscriber: dict[str, str]) -> None:
    limits = {"5h": {"status": "rejected"}, "overage": {"status": "allowed", "utilization": 0.5, "reset_in": 90}}
    sandbox.settings("alice", limits=limits)
    answer = say(headers=subscriber)
    found = unified(answer)
    assert answer.status_code == 200
    assert (found["status"], found["representative-claim"]) == ("allowed", "overage")
    assert (found["overage-status"], found["overage-utilization"]) == ("allowed", "0.5")
    assert int(found["overage-reset"]) > sandbox.now()
    assert "overage-disabled-reason" not in found


def test_an_empty_bucket_refuses_the_api_key_until_its_reset(say: Say, sandbox: Sandbox) -> None:
    sandbox.settings("alice", limits={"requests": {"limit": 50, "remaining": 0, "reset_in": 30}})
    refused = say()
    assert refused.status_code == 429
    assert 29 <= int(refused.headers["retry-after"]) <= 30
    assert refused.headers["anthropic-ratelimit-requests-limit"] == "50"
    assert say(key=sandbox.api_key("bob")).status_code == 200
    sandbox.advance(31)
    assert say().status_code == 200


def test_limits_can_be_set_back(say: Say, sandbox: Sandbox, subscriber: dict[str, str]) -> None:
    sandbox.settings("alice", limits={"5h": {"status": "rejected"}, "7d": {"status": "rejected"}})
    sandbox.settings("alice", limits={"5h": None, "7d": None})
    assert say(headers=subscriber).status_code == 200
    sandbox.settings("alice", limits={"5h": {"status": "rejected"}, "overage": {"status": "allowed"}})
    sandbox.settings("alice", limits=None)
    assert unified(say(headers=subscriber))["overage-status"] == "rejected"
