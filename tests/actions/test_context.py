from pathlib import Path
from typing import Any

from tokenferry.actions import ActionContext
from tokenferry.settings import Home

NOTHING: dict[str, Any] = {"home": Home(Path("/nowhere")), "broker_source": None, "secret": None, "state_source": None}


def test_an_own_callback_is_one_that_leads_to_a_host_of_the_listeners() -> None:
    parts = ActionContext(
        **NOTHING, urls=("the Unix socket /x", "http://127.0.0.1:1"), hosts=frozenset((b"127.0.0.1:1", b"a.b"))
    )
    assert parts.base == "http://127.0.0.1:1"
    for good in ("http://127.0.0.1:1/oauth/callback", "https://A.b/oauth/callback"):
        assert parts.is_own_callback(good)
    for bad in (
        "http://127.0.0.1:2/oauth/callback",
        "http://127.0.0.1:1/oauth/callback/",
        "http://127.0.0.1:1/oauth/code/callback",
        "http://evil@127.0.0.1:1/oauth/callback",
        "http://127.0.0.1:1.evil/oauth/callback",
        "",
    ):
        assert not parts.is_own_callback(bad)


def test_a_browser_comes_by_the_public_url_where_there_is_one() -> None:
    parts = ActionContext(
        **NOTHING,
        urls=("http://127.0.0.1:1",),
        hosts=frozenset((b"127.0.0.1:1", b"gateway.example")),
        public_url="https://gateway.example",
    )
    assert parts.base == "https://gateway.example"
    assert parts.is_own_callback("https://gateway.example/oauth/callback")
