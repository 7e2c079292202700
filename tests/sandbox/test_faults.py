import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import httpx2
import pytest

from tokenferry.errors import UsageError
from tokenferry.sandbox import Sandbox

Say = Callable[..., httpx2.Response]
Headers = Callable[[str], dict[str, str]]
CUT = (httpx2.RemoteProtocolError, httpx2.ReadError)


class InBackground:
    """One call in a thread of its own; it is still running, or has its outcome."""

    def __init__(self, call: Callable[[], httpx2.Response]) -> None:
        self.outcome: Future[httpx2.Response] = Future()
        self._thread = threading.Thread(target=self._run, args=(call,))
        self._thread.start()

    def _run(self, call: Callable[[], httpx2.Response]) -> None:
        try:
            self.outcome.set_result(call())
        except Exception as error:  # noqa: BLE001  # it is raised again by result()
            self.outcome.set_exception(error)

    def result(self) -> httpx2.Response:
        self._thread.join()
        return self.outcome.result()


def seen(requests: int) -> Callable[[dict[str, Any]], bool]:
    return lambda counters: bool(counters["totals"]["requests"] == requests)


def cancelled(account: str) -> Callable[[dict[str, Any]], bool]:
    return lambda counters: bool(counters["accounts"][account]["cancelled"])


def test_status_answers_in_the_envelope(say: Say, sandbox: Sandbox) -> None:
    sandbox.fault("status", status=529, headers={"Retry-After": 7}, message="busy")
    answer = say()
    assert (answer.status_code, answer.headers["retry-after"]) == (529, "7")
    assert answer.json()["error"] == {"type": "overloaded_error", "message": "busy"}
    assert answer.headers["request-id"] == answer.json()["request_id"]
    assert "anthropic-ratelimit-requests-limit" not in answer.headers
    assert say().status_code == 200


def test_status_can_carry_limit_headers_or_html(say: Say, sandbox: Sandbox) -> None:
    sandbox.fault("status", status=429, limit_headers=True, type="custom_error")
    sandbox.fault("status", status=502, body="<h1>bad gateway</h1>")
    limited, page = say(), say()
    assert limited.headers["anthropic-ratelimit-requests-limit"] == "4000"
    assert limited.json()["error"]["type"] == "custom_error"
    assert (page.status_code, page.text) == (502, "<h1>bad gateway</h1>")
    assert page.headers["content-type"].startswith("text/html")


def test_status_speaks_oauth_at_the_token_endpoint(login: Any, sandbox: Sandbox) -> None:
    held = login.tokens()["refresh_token"]
    sandbox.fault("status", path="/v1/oauth/token", status=400, type="invalid_grant", message="dead")
    sandbox.fault("status", path="/v1/oauth/token", status=503)
    assert login.refresh(held).json() == {"error": "invalid_grant", "error_description": "dead"}
    assert login.refresh(held).json()["error"] == "server_error"
    assert login.refresh(held).status_code == 200


def test_work_can_be_done_before_it_is_denied(login: Any, sandbox: Sandbox) -> None:
    held = login.tokens()["refresh_token"]
    sandbox.fault("status", status=503, after_work=True)
    assert login.refresh(held).status_code == 503
    assert sandbox.counters()["accounts"]["alice"]["refreshes"] == 1
    assert login.refresh(held).json()["error"] == "invalid_grant"


def test_lose_answer_rotates_and_says_nothing(login: Any, sandbox: Sandbox) -> None:
    held = login.tokens()["refresh_token"]
    sandbox.fault("lose_answer", path="/v1/oauth/token", account="alice")
    with pytest.raises(CUT):
        login.refresh(held)
    assert sandbox.counters()["accounts"]["alice"]["refreshes"] == 1
    assert sandbox.requests(1)[0]["status"] is None
    assert login.refresh(held).json()["error"] == "invalid_grant"


def test_lose_answer_may_cut_in_the_middle(say: Say, sandbox: Sandbox) -> None:
    sandbox.fault("lose_answer", bytes=10)
    with pytest.raises(httpx2.RemoteProtocolError, match="received 10 bytes"):
        say()


def test_cut_before_does_nothing(login: Any, sandbox: Sandbox) -> None:
    held = login.tokens()["refresh_token"]
    sandbox.fault("cut_before", path="/v1/oauth/token")
    with pytest.raises(CUT):
        login.refresh(held)
    assert sandbox.counters()["accounts"]["alice"]["refreshes"] == 0
    assert login.refresh(held).status_code == 200


def test_delay_ends_when_the_clock_is_moved(say: Say, sandbox: Sandbox) -> None:
    sandbox.fault("delay", seconds=3600)
    call = InBackground(say)
    sandbox.wait_until(seen(1))
    assert sandbox.counters()["in_flight"] == 1
    assert not call.outcome.done()
    sandbox.advance(3601)
    assert call.result().status_code == 200
    sandbox.wait_until(lambda counters: counters["in_flight"] == 0)


def test_delay_adds_to_the_fault_after_it(say: Say, sandbox: Sandbox) -> None:
    sandbox.fault("delay", seconds=0.001)
    sandbox.fault("status", status=500)
    assert say().status_code == 500


def test_hang_ends_when_faults_are_cleared(say: Say, sandbox: Sandbox) -> None:
    sandbox.fault("hang", times=None)
    calls = [InBackground(say), InBackground(say)]
    sandbox.wait_until(seen(2))
    sandbox.advance(10**6)
    assert not any(call.outcome.done() for call in calls)
    sandbox.clear()
    assert [call.result().status_code for call in calls] == [200, 200]


def test_a_client_that_leaves_is_counted_and_its_work_left_undone(login: Any, sandbox: Sandbox) -> None:
    held = login.tokens()["refresh_token"]
    sandbox.fault("hang")
    with pytest.raises(httpx2.ReadTimeout):
        login.http.post(
            "/v1/oauth/token",
            data={"grant_type": "refresh_token", "refresh_token": held, "client_id": "sandbox-client"},
            timeout=0.1,
        )
    sandbox.wait_until(cancelled("alice"))
    assert sandbox.counters()["in_flight"] == 0
    assert login.refresh(held).status_code == 200


def test_a_client_that_leaves_after_the_work_has_lost_its_answer(login: Any, sandbox: Sandbox) -> None:
    held = login.tokens()["refresh_token"]
    sandbox.fault("hang", after_work=True)
    with pytest.raises(httpx2.ReadTimeout):
        login.http.post(
            "/v1/oauth/token",
            data={"grant_type": "refresh_token", "refresh_token": held, "client_id": "sandbox-client"},
            timeout=0.1,
        )
    assert login.refresh(held).json()["error"] == "invalid_grant"


def test_truncate_ends_a_stream_without_message_stop(say: Say, sandbox: Sandbox) -> None:
    sandbox.fault("truncate", events=4)
    answer = say(stream=True)
    assert answer.status_code == 200
    assert answer.text.count("event: ") == 4
    assert "message_stop" not in answer.text


def test_truncate_may_cut_the_connection(say: Say, sandbox: Sandbox) -> None:
    sandbox.fault("truncate", events=4, cut=True)
    with pytest.raises(httpx2.RemoteProtocolError, match="incomplete"):
        say(stream=True)


@pytest.mark.parametrize(("deltas", "before"), [(0, ["message_start", "ping"]), (2, ["content_block_delta"] * 2)])
def test_sse_error_comes_before_or_amid_the_content(
    deltas: int,
    before: list[str],
    say: Say,
    sandbox: Sandbox,
) -> None:
    sandbox.fault("sse_error", deltas=deltas)
    answer = say(stream=True)
    names = [line.removeprefix("event: ") for line in answer.text.splitlines() if line.startswith("event: ")]
    assert names[-1] == "error"
    assert names[-1 - len(before) : -1] == before
    assert names.count("content_block_delta") == deltas
    assert '"overloaded_error"' in answer.text


def test_stream_faults_leave_other_answers_alone(say: Say, sandbox: Sandbox) -> None:
    sandbox.fault("sse_error")
    assert say().status_code == 200
    assert "event: error" in say(stream=True).text


STREAMED = {"model": "claude-x", "max_tokens": 9, "stream": True, "messages": [{"role": "user", "content": "hi"}]}


def headers_of(sandbox: Sandbox, account: str) -> dict[str, str]:
    return {"anthropic-version": "2023-06-01", "x-api-key": sandbox.api_key(account)}


def test_slow_streams_can_be_left(sandbox: Sandbox, http: httpx2.Client) -> None:
    sandbox.fault("slow", seconds=3600)
    with http.stream("POST", "/v1/messages", json=STREAMED, headers=headers_of(sandbox, "bob")) as answer:
        assert next(answer.iter_text()).startswith("event: message_start")
    sandbox.wait_until(cancelled("bob"))


def test_slow_streams_may_begin_at_once(sandbox: Sandbox, http: httpx2.Client) -> None:
    sandbox.fault("slow", seconds=3600, events=3)
    with http.stream("POST", "/v1/messages", json=STREAMED, headers=headers_of(sandbox, "bob")) as answer:
        text = ""
        for more in answer.iter_text():
            text += more
            if "content_block_delta" in text:
                break
    assert text.count("event: content_block_delta") == 1


def test_slow_streams_come_whole(say: Say, sandbox: Sandbox) -> None:
    sandbox.fault("slow", seconds=0.001)
    assert "message_stop" in say(stream=True).text


def test_unreadable_is_a_200_that_is_no_json(login: Any, sandbox: Sandbox) -> None:
    held = login.tokens()["refresh_token"]
    sandbox.fault("unreadable", path="/v1/oauth/token", after_work=True)
    answer = login.refresh(held)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    with pytest.raises(ValueError, match="Expecting value"):
        answer.json()
    assert sandbox.counters()["accounts"]["alice"]["refreshes"] == 1


def test_redirect_points_elsewhere(say: Say, sandbox: Sandbox) -> None:
    sandbox.fault("redirect", location="http://127.0.0.1:9/elsewhere")
    answer = say()
    assert (answer.status_code, answer.headers["location"]) == (307, "http://127.0.0.1:9/elsewhere")


def test_huge_answers_are_as_large_as_said(say: Say, sandbox: Sandbox) -> None:
    sandbox.fault("huge", bytes=3_000_000)
    assert len(say().content) == 3_000_000


@pytest.mark.parametrize("stream", [True, False])
def test_drip_changes_no_byte(stream: bool, say: Say, sandbox: Sandbox) -> None:  # noqa: FBT001  # a parameter of the test
    sandbox.settings(answer={"text": "⛴ ä"})
    whole = say(stream=stream).text
    sandbox.fault("drip", bytes=1)
    dripped = say(stream=stream).text
    assert dripped.count("⛴") == whole.count("⛴") == 1
    assert len(dripped) == len(whole)


def test_rules_pick_their_requests(say: Say, sandbox: Sandbox, http: httpx2.Client) -> None:
    sandbox.fault("status", status=500, account="bob", path="/v1/messages", method="post", times=2, after=1)
    bob = sandbox.api_key("bob")
    assert say().status_code == 200
    assert http.get("/v1/models", headers={"x-api-key": bob, "anthropic-version": "x"}).status_code == 200
    assert [say(key=bob).status_code for _ in range(4)] == [200, 500, 500, 200]


def test_waiting_for_what_never_comes_ends(sandbox: Sandbox) -> None:
    with pytest.raises(TimeoutError, match="nothing of the kind"):
        sandbox.wait_until(seen(1), timeout=0.01)


@pytest.mark.parametrize("times", [0, None])
def test_rules_can_last_until_cleared(times: int | None, say: Say, sandbox: Sandbox) -> None:
    sandbox.fault("status", status=500, times=times)
    assert {say().status_code for _ in range(5)} == {500}
    sandbox.clear()
    assert say().status_code == 200


def test_rules_find_the_account_by_its_tokens(login: Any, sandbox: Sandbox, say: Say, bearer: Headers) -> None:
    bob, alice = login.tokens("bob"), login.tokens("alice")
    sandbox.fault("status", status=500, account="bob", times=None)
    assert login.refresh(bob["refresh_token"]).status_code == 500
    assert say(headers=bearer(bob["access_token"])).status_code == 500
    assert say(headers=bearer(sandbox.setup_token("bob"))).status_code == 500
    assert login.refresh(alice["refresh_token"]).status_code == 200


@pytest.mark.parametrize(
    "given",
    [
        {"kind": "unheard"},
        {"kind": "status", "seconds": 1},
        {"kind": "status", "status": 99},
        {"kind": "status", "headers": {"a": "b\r\nc: d"}},
        {"kind": "status", "account": "mallory"},
        {"kind": "delay"},
        {"kind": "delay", "seconds": "1"},
        {"kind": "delay", "seconds": True},
        {"kind": "redirect"},
        {"kind": "redirect", "location": "http://x\r\n"},
        {"kind": "hang", "times": 1.5},
    ],
)
def test_rules_that_make_no_sense_are_refused(given: dict[str, Any], sandbox: Sandbox, say: Say) -> None:
    with pytest.raises(UsageError):
        sandbox.fault(**given)
    assert say().status_code == 200
