import pytest

from tokenferry.errors import ConfigError
from tokenferry.gateway import check_upstreams
from tokenferry.providers import Provider
from tokenferry.settings import ServerSettings


def leads_back(url: str, server: ServerSettings | None = None, port: int | None = None) -> bool:
    providers = [Provider("other", "other", "https://llm.example"), Provider("own", "own", url)]
    try:
        check_upstreams(providers, server or ServerSettings(), port)
    except ConfigError as fault:
        return [problem.split()[0] for problem in fault.problems] == ["providers.own.base_url"]
    return False


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:13456",
        "http://localhost:13456",
        "http://LOCALHOST.:13456",
        "http://0.0.0.0:13456",
        "http://[::ffff:127.0.0.1]:13456",
        "https://127.0.0.1:13456/v1",
    ],
)
def test_a_gateway_is_not_its_own_upstream_by_whatever_name(url: str) -> None:
    assert leads_back(url)
    assert not leads_back(url.replace("13456", "13457"))


@pytest.mark.parametrize("url", ["http://127.0.0.1", "https://llm.example:13456", "http://127.0.0.2:13456"])
def test_another_listener_of_this_machine_may_be_one(url: str) -> None:
    assert not leads_back(url)


def test_the_names_that_clients_call_it_by_count_whatever_the_port() -> None:
    server = ServerSettings(allowed_hosts=("gateway.example", "other.example:8443"))
    assert leads_back("https://gateway.example", server)
    assert leads_back("https://other.example:8443", server)
    assert not leads_back("https://other.example", server)


def test_the_port_that_it_took_counts_and_all_addresses_where_it_listens_on_all() -> None:
    assert leads_back("http://127.0.0.1:4000", ServerSettings(port=0), 4000)
    assert not leads_back("http://127.0.0.2:4000", ServerSettings(port=0), 4000)
    assert leads_back("http://127.0.0.2:4000", ServerSettings(host="0.0.0.0", port=4000, allow_remote=True))
    assert not leads_back("http://127.0.0.1:13456", ServerSettings(tcp=False))


def test_a_provider_that_is_not_enabled_is_asked_nothing() -> None:
    check_upstreams([Provider("own", "own", "http://127.0.0.1:13456", enabled=False)], ServerSettings())
