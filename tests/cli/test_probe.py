import pytest

from tokenferry.cli._probe import address_of
from tokenferry.settings import ServerSettings


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:13456"),
        ("0.0.0.0", "http://127.0.0.1:13456"),
        ("::", "http://[::1]:13456"),
        ("192.0.2.1", "http://192.0.2.1:13456"),
    ],
)
def test_this_machine_reaches_a_gateway_of_every_address_by_its_own(host: str, url: str) -> None:
    assert address_of(ServerSettings(host=host, allow_remote=True)) == url
