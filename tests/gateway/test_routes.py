import pytest

from tokenferry.gateway._answers import Refusal
from tokenferry.gateway._routes import Route, route


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("HEAD", b"/", Route.CONSTANT),
        ("GET", b"/", Route.CONSTANT),
        ("HEAD", b"/api/hello", Route.CONSTANT),
        ("GET", b"/healthz", Route.CONSTANT),
        ("GET", b"/readyz", Route.CONSTANT),
        ("POST", b"/v1/messages", Route.INFERENCE),
        ("POST", b"/v1/messages/count_tokens", Route.INFERENCE),
        ("GET", b"/v1/models", Route.MODELS),
        ("GET", b"/v1/models/claude-opus-4-5-20251101", Route.MODELS),
        ("GET", b"/v1/models/anthropic.claude-v2:1", Route.MODELS),
        ("GET", b"/metrics", Route.METRICS),
    ],
)
def test_what_is_served(method: str, path: bytes, expected: Route) -> None:
    assert route(method, path) is expected


@pytest.mark.parametrize(
    "path",
    [
        b"/v1", b"/v1/messages/", b"//v1/messages", b"/v1//messages", b"/V1/messages", b"/v1/%6dessages",
        b"/v1/messages%2fcount_tokens", b"/v1/../v1/messages", b"/v1/models/", b"/v1/models/..", b"/v1/models/a/b",
        b"/v1/models/a%2fb", b"/v1/complete", b"/v1/organizations", b"/oauth/token", b"/v1/messages/batches",
    ],
)  # fmt: skip
def test_nothing_else_is(path: bytes) -> None:
    with pytest.raises(Refusal) as fault:
        route("POST", path)
    assert fault.value.status == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", b"/v1/messages"), ("POST", b"/v1/models"), ("DELETE", b"/v1/models/a"), ("POST", b"/"), ("OPTIONS", b"/")],
)
def test_a_wrong_method_is_told_the_right_one(method: str, path: bytes) -> None:
    with pytest.raises(Refusal) as fault:
        route(method, path)
    assert fault.value.status == 405
    assert dict(fault.value.headers)[b"allow"]
