import pytest

from gateway.rig import Gate, Origin
from tokenferry.gateway.auth.passthrough import own_credential, presented_own
from tokenferry.gateway.http.errors import GatewayError
from tokenferry.gateway.http.request_head import RequestHead
from tokenferry.providers import Provider, builtin_providers, may_pass_through

KEY = (b"x-tokenferry-key", b"tfk_key")
OAUTH, API = b"sk-ant-oat01-own", b"sk-ant-api03-own"


def lines(*headers: tuple[bytes, bytes]) -> tuple[bytes, ...]:
    head = RequestHead([KEY, *headers])
    presented = presented_own(head)
    assert presented is not None
    assert "own" not in repr(presented)
    return presented.lines


@pytest.mark.parametrize(
    ("headers", "line"),
    [
        ([(b"authorization", b"Bearer " + OAUTH)], b"authorization: Bearer " + OAUTH),
        ([(b"authorization", b"bearer  " + API)], b"x-api-key: " + API),
        ([(b"x-api-key", API)], b"x-api-key: " + API),
        ([(b"x-api-key", b"other"), (b"authorization", b"Bearer other")], b"authorization: Bearer other"),
        ([(b"x-api-key", b"other")], b"x-api-key: other"),
        ([(b"x-api-key", OAUTH), (b"authorization", b"Bearer ")], b"x-api-key: " + OAUTH),
        ([(b"x-api-key", b"tfk_another"), (b"authorization", b"Bearer " + OAUTH)], b"authorization: Bearer " + OAUTH),
    ],
)
def test_it_goes_up_as_the_one_credential(headers: list[tuple[bytes, bytes]], line: bytes) -> None:
    assert lines(*headers) == (line + b"\r\n",)


@pytest.mark.parametrize(
    "headers", [[], [(b"x-api-key", b"tfk_a")], [(b"authorization", b"Basic abc")], [(b"authorization", b"Bearer")]]
)
def test_without_one_there_is_none(headers: list[tuple[bytes, bytes]]) -> None:
    head = RequestHead([KEY, *headers])
    assert (own_credential(head), presented_own(head)) == (None, None)


def test_what_is_beside_no_key_of_its_own_is_the_client_key() -> None:
    assert own_credential(RequestHead([(b"x-api-key", API)])) is None


@pytest.mark.parametrize(
    "headers",
    [
        [(b"x-api-key", API), (b"authorization", b"Bearer " + OAUTH)],
        [(b"x-api-key", b"a b")],
        [(b"x-api-key", b"\xff")],
    ],
)
def test_what_is_doubtful_is_refused(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(GatewayError) as caught:
        own_credential(RequestHead([KEY, *headers]))
    assert (caught.value.status, caught.value.cause) == (400, "own_credential")
    assert "own" not in caught.value.message.replace("own_", "")


def test_it_goes_to_its_vendor_alone() -> None:
    secret = own_credential(RequestHead([KEY, (b"x-api-key", API)]))
    assert secret is not None
    anthropic = builtin_providers()["anthropic"]
    assert not may_pass_through(anthropic, secret.reveal())
    other = Provider("other", "other", "https://llm.example", passthrough=True)
    assert not may_pass_through(other, secret.reveal())


@pytest.mark.anyio
async def test_the_key_counts_where_it_has_a_header_of_its_own(gate: Gate, origin: Origin) -> None:
    """And no other does, nor does anything of it, or of the client's own credential, reach a provider without a say."""
    own = [(b"authorization", b"Bearer " + OAUTH)]
    assert (await gate.call(headers=[(b"x-tokenferry-key", gate.key), *own])).status == 200
    (seen,) = origin.seen
    assert seen.all(b"x-api-key") == [b"sk-ant-api03-one"]
    assert not seen.all(b"authorization")
    assert not seen.all(b"x-tokenferry-key")
    assert (await gate.call(headers=[(b"x-tokenferry-key", b"tfk_wrong"), (b"x-api-key", gate.key)])).status == 401
    assert (await gate.call(headers=own)).status == 401
