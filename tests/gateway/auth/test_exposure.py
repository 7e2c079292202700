from pathlib import Path

import pytest
from msgspec.structs import replace

from tokenferry.errors import ConfigError, PolicyRefused
from tokenferry.gateway import Guard, TrustedProxies, bind, check_reach, is_remote, remote_keys, remote_lines
from tokenferry.gateway.http.errors import GatewayError
from tokenferry.settings import PolicySettings, ServerSettings
from tokenferry.state import State

OPEN = ServerSettings(host="192.0.2.1", allow_remote=True)
OWN = PolicySettings("own-use")


def test_only_an_address_of_others_that_is_allowed_opens_it() -> None:
    assert is_remote(OPEN)
    assert not is_remote(replace(OPEN, host="127.0.0.1"))
    assert not is_remote(replace(OPEN, allow_remote=False))
    assert not is_remote(replace(OPEN, tcp=False))


def test_a_name_is_nothing_to_listen_on() -> None:
    with pytest.raises(ConfigError, match="is not an IP address"):
        bind("gateway.lan", 0, allow_remote=True)


@pytest.mark.parametrize("server", [OPEN, ServerSettings(trusted_proxies=("10.0.0.0/8",))])
def test_a_subscription_of_ones_own_is_not_served_to_others(server: ServerSettings) -> None:
    with pytest.raises(PolicyRefused, match="tokenferry policy set claude-code-only"):
        check_reach(server, OWN)
    check_reach(server, PolicySettings("claude-code-only"))
    check_reach(ServerSettings(), OWN)


def test_other_machines_need_a_living_key_of_their_own(tmp_path: Path) -> None:
    now = 1_700_000_000
    with State(tmp_path / "home" / "state.db", now=lambda: now) as state:
        state.keys.create("local")
        state.keys.create("boss", role="admin")
        state.keys.create("gone")
        state.keys.revoke("gone")
        state.keys.create("past", expires_at=now + 1)
        with pytest.raises(ConfigError, match="tokenferry key create NAME"):
            remote_keys(state.keys.list(), now + 2)
        state.keys.create("laptop")
        found = remote_keys(state.keys.list(), now + 2)
    assert [key.name for key in found] == ["laptop"]
    lines = list(remote_lines(OPEN, found))
    assert "laptop" in lines[0]
    assert any("without TLS" in line for line in lines)
    assert not any("without TLS" in line for line in remote_lines(replace(OPEN, tls_cert=Path("a")), found))
    assert any("allowed_hosts" in line for line in remote_lines(replace(OPEN, host="0.0.0.0"), found))
    assert not any("allowed_hosts" in line for line in lines)


@pytest.mark.parametrize(
    ("address", "forwarded", "is_taken"),
    [
        ("127.0.0.1", [], True),
        ("::1", [], True),
        (None, [], True),
        ("192.0.2.1", [], True),
        ("192.0.2.9", [], False),
        ("10.0.0.1", [b"192.0.2.9"], False),
        ("192.0.2.9", [b"127.0.0.1"], False),
        ("10.0.0.1", [b"127.0.0.1, 192.0.2.9"], False),
        ("10.0.0.1", [b"127.0.0.1"], False),
        ("10.0.0.1", [b"::1"], False),
        ("10.0.0.1", [b"::ffff:127.0.0.1"], False),
        ("10.0.0.1", [b"192.0.2.1"], False),
        ("127.0.0.2", [b"127.0.0.1"], True),
        ("127.0.0.2", [b"192.0.2.9"], False),
        ("127.0.0.2", [b"127.0.0.1, 10.0.0.1"], False),
        ("127.0.0.2", [b"192.0.2.1, 10.0.0.1"], False),
    ],
)
def test_the_local_key_is_for_this_machine_alone(
    tmp_path: Path, address: str | None, forwarded: list[bytes], *, is_taken: bool
) -> None:
    with State(tmp_path / "home" / "state.db") as state:
        _, local = state.keys.create("local")
        _, laptop = state.keys.create("laptop")
        guard = Guard(state.keys, frozenset(), proxies=TrustedProxies(["10.0.0.0/8", "127.0.0.2"]), open_at="192.0.2.1")
        headers = [(b"x-api-key", local.reveal().encode()), *((b"x-forwarded-for", one) for one in forwarded)]
        if is_taken:
            assert guard.check_key(headers, address).name == "local"
        else:
            with pytest.raises(GatewayError, match="works only on this machine") as caught:
                guard.check_key(headers, address)
            assert caught.value.status == 403
        assert guard.check_key([(b"x-api-key", laptop.reveal().encode())], address).name == "laptop"
        assert Guard(state.keys, frozenset()).check_key(headers, address).name == "local"


def test_bad_keys_count_for_the_client_that_a_trusted_proxy_names(tmp_path: Path) -> None:
    with State(tmp_path / "home" / "state.db") as state:
        guard = Guard(state.keys, frozenset(), proxies=TrustedProxies(["10.0.0.0/8"]))

        def status(peer: str, client: bytes) -> int:
            with pytest.raises(GatewayError) as caught:
                guard.check_key([(b"x-api-key", b"bad"), (b"x-forwarded-for", client)], peer)
            return caught.value.status

        assert {status("10.0.0.1", b"203.0.113.1") for _ in range(200)} == {401}
        assert status("10.0.0.1", b"203.0.113.1") == 429
        assert status("10.0.0.1", b"203.0.113.2") == 401
        assert status("192.0.2.1", b"203.0.113.1") == 401
