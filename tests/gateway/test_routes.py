import pytest

from tokenferry.gateway.control.control_plane import is_control
from tokenferry.gateway.http.errors import GatewayError
from tokenferry.gateway.routes import Endpoint, route


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("HEAD", b"/", Endpoint.CONSTANT),
        ("GET", b"/", Endpoint.CONSTANT),
        ("HEAD", b"/api/hello", Endpoint.CONSTANT),
        ("GET", b"/healthz", Endpoint.CONSTANT),
        ("GET", b"/readyz", Endpoint.CONSTANT),
        ("POST", b"/v1/messages", Endpoint.INFERENCE),
        ("POST", b"/v1/messages/count_tokens", Endpoint.INFERENCE),
        ("POST", b"/v1/chat/completions", Endpoint.INFERENCE),
        ("GET", b"/v1/models", Endpoint.MODELS),
        ("GET", b"/v1/models/claude-opus-4-5-20251101", Endpoint.MODELS),
        ("GET", b"/v1/models/anthropic.claude-v2:1", Endpoint.MODELS),
        ("GET", b"/metrics", Endpoint.METRICS),
        ("POST", b"/v1/embeddings", Endpoint.UNPRICED),
        ("POST", b"/v1/files", Endpoint.UNPRICED),
        ("GET", b"/v1/files/file_1/content", Endpoint.UNPRICED),
        ("DELETE", b"/v1/messages/batches/msgbatch_1", Endpoint.UNPRICED),
        ("POST", b"/v1/messages/batches/msgbatch_1/cancel", Endpoint.UNPRICED),
        ("GET", b"/v1/messages/batches/msgbatch_1/results", Endpoint.UNPRICED),
    ],
)
def test_what_is_served(method: str, path: bytes, expected: Endpoint) -> None:
    assert route(method, path) is expected


@pytest.mark.parametrize(
    "path",
    [
        b"/v1", b"/v1/messages/", b"//v1/messages", b"/v1//messages", b"/V1/messages", b"/v1/%6dessages",
        b"/v1/messages%2fcount_tokens", b"/v1/../v1/messages", b"/v1/models/", b"/v1/models/..", b"/v1/models/a/b",
        b"/v1/models/a%2fb", b"/v1/complete", b"/v1/organizations", b"/oauth/token", b"/v1/batches",
        b"/v1/messages/batches/", b"/v1/messages/batches/a/b", b"/v1/messages/batches/a%2fb/cancel", b"/v1/files/..",
        b"/v1/files/../messages", b"/v1/files/a/results", b"/v1/embeddings/a",
    ],
)  # fmt: skip
def test_nothing_else_is(path: bytes) -> None:
    with pytest.raises(GatewayError) as fault:
        route("POST", path)
    assert fault.value.status == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", b"/v1/messages"),
        ("GET", b"/v1/chat/completions"),
        ("POST", b"/v1/models"),
        ("GET", b"/v1/embeddings"),
        ("POST", b"/v1/files/a"),
        ("DELETE", b"/v1/messages/batches/a/cancel"),
        ("DELETE", b"/v1/models/a"),
        ("POST", b"/"),
        ("OPTIONS", b"/"),
    ],
)
def test_the_answer_to_a_wrong_method_names_the_right_one(method: str, path: bytes) -> None:
    with pytest.raises(GatewayError) as fault:
        route(method, path)
    assert fault.value.status == 405
    assert dict(fault.value.headers)[b"allow"]


def test_another_method_of_geminis_is_no_model_with_a_colon_in_its_name() -> None:
    path = b"/v1beta/models/imagen-4:predict"
    with pytest.raises(GatewayError) as fault:
        route("POST", path)
    assert fault.value.status == 404
    assert "for generateContent, streamGenerateContent, countTokens" in fault.value.message
    assert route("GET", path) is Endpoint.MODELS


@pytest.mark.parametrize(
    ("path", "says"),
    [
        (b"/v1/v1/messages", "remove /v1"),
        (b"/v1/v1/messages/count_tokens", "remove /v1"),
        (b"/v1/v1/models", "remove /v1"),
        (b"/v1/messages/v1/messages", "remove /v1"),
        (b"/v1/v1/v1/models/a", "remove /v1"),
        (b"/messages", "add /v1"),
        (b"/models/a", "add /v1"),
        (b"/chat/completions", "add /v1"),
        (b"/v1/v1/chat/completions", "remove /v1"),
        (b"/v1/chat/completions/v1/chat/completions", "remove /v1"),
        (b"/responses", "add /v1"),
        (b"/v1/v1/responses", "remove /v1"),
        (b"/v1/responses/resp_1/cancel", "stores no answers"),
        (b"/v1/completions", "OpenAI's legacy Completions API"),
        (b"/v1/nothing", "/v1/messages/batches, /v1/files, /v1/embeddings, /v1/models"),
        (b"/v1beta/models/gemini-2.5-pro:embedContent", "of Gemini's API it serves"),
        (b"/v1beta/models/../x:generateContent", "of Gemini's API it serves"),
        (b"/v1beta/cachedContents", "of Gemini's API it serves"),
        (b"/v1/projects/p/locations/l/publishers/anthropic/models/m:rawPredict", "Vertex AI's API"),
        (b"/model/anthropic.claude-v2:1/invoke", "Bedrock's API"),
        (b"/api/chat", "Ollama's API"),
        (b"/v1/complete", "it serves /v1/messages"),
        (b"/v1" * 20_000, "it serves /v1/messages"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_answer_says_what_the_client_must_change(method: str, path: bytes, says: str) -> None:
    with pytest.raises(GatewayError) as fault:
        route(method, path)
    assert fault.value.status == 404
    assert says in fault.value.message
    assert len(fault.value.message) < 300
    assert not is_control(path)
