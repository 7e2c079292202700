import json

import pytest

from tokenferry.errors import (
    ConfigError,
    CorruptFile,
    CredentialRefused,
    NeedsLogin,
    PolicyRefused,
    RefreshBusy,
    StorageFailed,
    TokenferryError,
    TryLater,
    UnknownAccount,
    UnsafeFile,
)
from tokenferry.gateway.http.errors import (
    ERROR_MARK,
    GatewayError,
    cause_of,
    combined_error,
    gateway_error_of,
)
from tokenferry.upstream import AnswerCut, AnswerTimeout, BadAnswer, BadRequest, ConnectError, UpstreamClosed
from tokenferry.wire import error_event


@pytest.mark.parametrize(
    ("fault", "status", "should_retry", "retry_after"),
    [
        (PolicyRefused("x"), 403, False, None),
        (NeedsLogin("x"), 503, False, None),
        (CredentialRefused("x"), 503, False, None),
        (UnknownAccount("x"), 503, True, 2),
        (ConfigError("x"), 503, False, None),
        (UnsafeFile("x"), 500, False, None),
        (CorruptFile("x"), 500, False, None),
        (TryLater("x"), 503, True, 2),
        (RefreshBusy("x", retry_after=4.2), 503, True, 5),
        (RefreshBusy("x", retry_after=0.0), 503, True, 1),
        (RefreshBusy("x", retry_after=9000), 503, True, 9000),
        (StorageFailed("x"), 503, True, 10),
        (ConnectError("h", "refused"), 502, True, None),
        (AnswerTimeout("h", "connect", 10, sent=False, answered=False), 504, True, None),
        (AnswerTimeout("h", "first-byte", 10, sent=True, answered=False), 504, True, None),
        (AnswerCut("h", after_head=False, sent=True, answered=False), 502, True, None),
        (BadAnswer("h", "nonsense", after_head=False), 502, True, None),
        (BadRequest("h", "a header"), 400, False, None),
        (UpstreamClosed("h"), 503, True, 2),
    ],
)
def test_every_fault_has_its_answer(
    fault: TokenferryError,
    status: int,
    should_retry: bool,  # noqa: FBT001  # a case
    retry_after: int | None,
) -> None:
    error = gateway_error_of(fault)
    assert (error.status, error.should_retry, error.retry_after) == (status, should_retry, retry_after)
    headers = dict(error.head(5))
    assert headers[b"x-should-retry"] == (b"true" if should_retry else b"false")
    assert headers[ERROR_MARK] == cause_of(fault).encode()
    assert headers.get(b"retry-after") == (None if retry_after is None else str(retry_after).encode())
    assert len(error.message.splitlines()) == 1


def test_clients_read_nothing_that_only_the_operator_may_see() -> None:
    """Neither alone nor among the faults of several accounts, where the same sentence is said once."""
    faults = [StorageFailed(f"PostgreSQL fleet at db{number}.example can't be used") for number in range(2)]
    for fault in faults:
        fault.for_clients = "the database can't be used"
    assert gateway_error_of(faults[0]).message == "the database can't be used"
    assert combined_error([*faults]).message == "none of the 2 accounts can be used: the database can't be used"


def test_an_answer_is_an_envelope_with_its_requests_id() -> None:
    document = json.loads(GatewayError(404, "not_found_error", "no ⛴ here").body("tf_1"))
    assert document == {
        "type": "error",
        "error": {"type": "not_found_error", "message": "no ⛴ here"},
        "request_id": "tf_1",
    }


def test_an_error_event_is_one_event() -> None:
    event = error_event("api_error", "two\nlines", "tf_1")
    assert event.startswith(b"event: error\ndata: {")
    assert event.count(b"\n") == 3


def test_of_several_faults_the_one_that_passes_soonest_decides() -> None:
    faults = [PolicyRefused("a"), RefreshBusy("b", retry_after=9), RefreshBusy("c", retry_after=3)]
    error = combined_error(faults)
    assert (error.status, error.retry_after) == (503, 3)
    assert all(str(fault) in error.message for fault in faults)


def test_one_fault_is_reported_in_its_own_words() -> None:
    assert combined_error([PolicyRefused("a")]).message == "a"


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (NeedsLogin("x"), "needs_login"),
        (RefreshBusy("x"), "refresh_busy"),
        (AnswerTimeout("h", "idle", 1, sent=True, answered=True), "upstream_timeout"),
        (BadAnswer("h", "x", after_head=True), "upstream_bad_answer"),
    ],
)
def test_a_fault_has_a_word_for_programs(fault: TokenferryError, cause: str) -> None:
    assert cause_of(fault) == cause


def test_the_mark_of_an_answer_of_ours_says_what_went_wrong() -> None:
    assert dict(GatewayError(404, "not_found_error", "x").head(0))[ERROR_MARK] == b"not_found_error"
    assert dict(GatewayError(503, "api_error", "x", cause="no_account").head(0))[ERROR_MARK] == b"no_account"
