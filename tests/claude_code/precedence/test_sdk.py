"""The SDK's order as we tell it, and the real SDK's, over environments of every shape."""

import itertools
import json
import logging
import os
import stat
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import anthropic
import httpx2
import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from effort import effort
from tokenferry.claude_code.precedence import Chain, Machine, look, sdk_chain
from tokenferry.claude_code.precedence._values import Held

NOW: Final = int(time.time())
PROFILES: Final = ("default", "work")
EXCHANGED: Final = "exchanged-token"
REFRESHED: Final = "refreshed-token"


@pytest.fixture(scope="module")
def token_endpoint() -> Iterator[str]:
    """Answers every grant, of whichever kind."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            token = REFRESHED if body["grant_type"] == "refresh_token" else EXCHANGED
            answer = json.dumps({"access_token": token, "expires_in": 3600, "token_type": "Bearer"}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as the base class names it
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def by_the_sdk(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]) -> tuple[str, str, str]:
    """What the SDK does: the credential and the address it sends it to, or when it fails."""
    sent: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.append(request)
        return httpx2.Response(200, json={"data": [], "has_more": False, "first_id": None, "last_id": None})

    with monkeypatch.context() as patch:
        for name in os.environ:
            if name.startswith("ANTHROPIC_"):
                patch.delenv(name)
        for name, value in environ.items():
            patch.setenv(name, value)
        try:
            client = anthropic.Anthropic(
                max_retries=0, http_client=httpx2.Client(transport=httpx2.MockTransport(answer))
            )
        except Exception:  # noqa: BLE001  # whatever it is, no client was made
            return "stops", "", ""
        with client:
            if client.credentials is None and client.api_key is None and client.auth_token is None:
                return "nothing", "", ""
            try:
                client.models.list()
            except Exception:  # noqa: BLE001  # whatever it is, nothing was sent
                return "fails", "", ""
    (request,) = sent
    assert "x-api-key" not in request.headers
    url = str(request.url).removesuffix("/v1/models")
    return "sends", request.headers["authorization"].removeprefix("Bearer "), url


def by_us(machine: Machine) -> tuple[str, str, str]:
    chain = sdk_chain(machine)
    winner = chain.winner
    if winner is None:
        return "nothing", "", ""
    if winner.state == "fails":
        return "stops" if "no client can be made" in winner.reason else "fails", "", ""
    assert chain.sends == {"authorization": winner.name}
    if winner.held is not None:
        return "sends", winner.held.digest, chain.base_url.rstrip("/")
    return "sends", "refreshed" if "refreshed" in winner.reason else "exchanged", chain.base_url.rstrip("/")


def named(outcome: tuple[str, str, str]) -> tuple[str, str, str]:
    """The SDK's outcome in our words."""
    what, token, url = outcome
    if what != "sends":
        return outcome
    return what, {REFRESHED: "refreshed", EXCHANGED: "exchanged"}.get(token, Held.of(token).digest), url


URLS: Final = ("@local", "@local", "@local/deep/", "https://gateway.example", "http://gateway.example")
odd: st.SearchStrategy[Any] = st.sampled_from([None, "", 0, 7, True, [], {}, "text", 1.5, "12", "1e3"])
expiries = st.one_of(
    st.sampled_from([None, 0, NOW + 5000, NOW - 5000, (NOW + 5000) * 1000, NOW + 10, str(NOW + 5000), float("inf")]),
    odd,
)
credentials = st.fixed_dictionaries(
    {"access_token": st.one_of(*[st.just("profile-token")] * 8, odd)},
    optional={
        "expires_at": expiries,
        "refresh_token": st.sampled_from(["profile-refresh", "", None]),
        "type": st.sampled_from(["oauth_token"] * 4 + ["other", None]),
        "version": st.just("1.0"),
    },
)
logins = st.one_of(
    *[
        st.fixed_dictionaries(
            {"type": st.just("user_oauth")}, optional={"client_id": st.sampled_from(["client", "", None])}
        )
    ]
    * 4,
    st.fixed_dictionaries(
        {"type": st.just("oidc_federation")},
        optional={
            "federation_rule_id": st.sampled_from(["rule", "rule", ""]),
            "identity_token": st.sampled_from(
                [
                    *[{"source": "file", "path": "@identity"}] * 6,
                    {"source": "url", "path": "@identity"},
                    {"source": "file", "path": ""},
                    {"source": "file", "path": "@nowhere"},
                    {},
                    None,
                ]
            ),
        },
    ),
    st.sampled_from([{"type": "other"}, {}, None, [], "text"]),
)
configs = st.fixed_dictionaries(
    {"authentication": logins},
    optional={
        "base_url": st.sampled_from(
            ["@local", "@local", "@local", "https://profile.example", "http://profile.example", "", None]
        ),
        "organization_id": st.sampled_from(["organization", "organization", "", None]),
    },
)
raw = st.sampled_from([b"", b"{", b"[]", b"null", b"\xff", b"\xef\xbb\xbf{}", b'"text"'])
places = st.sampled_from(["file"] * 40 + ["absent", "folder", "link inside", "link outside", "dangling"])
files = st.fixed_dictionaries({"where": places, "mode": st.sampled_from([0o600] * 20 + [0o644, 0o664, 0o640, 0o602])})
profile = st.fixed_dictionaries(
    {
        "config": st.one_of(*[configs] * 8, raw),
        "config_file": files,
        "credentials": st.one_of(*[credentials] * 8, raw),
        "credentials_file": files,
        "credentials_path": st.sampled_from([None] * 5 + ["@elsewhere", ""]),
    }
)
environments = st.fixed_dictionaries(
    {},
    optional={
        "ANTHROPIC_API_KEY": st.sampled_from(["", "sk-ant-api03-key"]),
        "ANTHROPIC_AUTH_TOKEN": st.sampled_from(["", "auth-token"]),
    },
)
selections = st.fixed_dictionaries(
    {},
    optional={
        "ANTHROPIC_PROFILE": st.sampled_from([*["work"] * 6, "default", "nobody", "../work", ".x", " work", ""]),
        "ANTHROPIC_FEDERATION_RULE_ID": st.sampled_from(["rule", "rule", ""]),
        "ANTHROPIC_ORGANIZATION_ID": st.sampled_from(["organization", "organization", ""]),
        "ANTHROPIC_IDENTITY_TOKEN": st.sampled_from(["jwt", ""]),
        "ANTHROPIC_IDENTITY_TOKEN_FILE": st.sampled_from(["@identity", "@nowhere", "@empty", ""]),
        "ANTHROPIC_BASE_URL": st.sampled_from(URLS),
        "ANTHROPIC_CONFIG_DIR": st.sampled_from(["@folder", "@folder", ""]),
    },
)
pointers = st.sampled_from([*[None] * 6, b"work\n", b"default", b"nobody", b"", b" \n", b"../work", b".x"])
grounds = st.fixed_dictionaries(
    {
        "statics": st.one_of(st.just({}), st.just({}), environments),
        "selected": selections,
        "pointer": pointers,
        **dict.fromkeys(PROFILES, profile),
    }
)


class Ground:
    """The files of one example."""

    def __init__(self, root: Path, local: str) -> None:
        self.home = root / "person"
        self.words = {
            "@local": local,
            "@folder": str(self.home / ".config" / "anthropic"),
            "@identity": str(root / "identity"),
            "@empty": str(root / "empty"),
            "@nowhere": str(root / "nowhere"),
            "@elsewhere": str(root / "elsewhere"),
        }
        self.folder = Path(self.words["@folder"])
        self.outside = root / "outside"
        for folder in (self.folder / "configs", self.folder / "credentials", self.outside):
            folder.mkdir(parents=True)
        (root / "identity").write_text("jwt-of-a-file\n")
        (root / "empty").write_text(" \n")

    def fill(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self.fill(one) for key, one in value.items()}
        if isinstance(value, str) and value.startswith("@"):
            word = next(word for word in self.words if value.startswith(word))
            return self.words[word] + value.removeprefix(word)
        return value

    def put(self, path: Path, content: Any, where: str, mode: int) -> None:
        data = content if isinstance(content, bytes) else json.dumps(self.fill(content)).encode()
        target = path
        if where == "folder":
            path.mkdir()
            return
        if where.startswith("link"):
            target = (self.folder if where == "link inside" else self.outside) / f"{path.parent.name}-{path.name}"
            path.symlink_to(target)
        if where == "dangling":
            path.symlink_to(self.folder / "nothing")
        elif where != "absent":
            target.write_bytes(data)
            target.chmod(mode)

    def profile(self, name: str, drawn: dict[str, Any]) -> None:
        config, place = drawn["config"], drawn["credentials_path"] and f"{drawn['credentials_path']}-{name}"
        if isinstance(config, dict) and isinstance(config["authentication"], dict) and place is not None:
            config = config | {"authentication": config["authentication"] | {"credentials_path": place}}
            if place:
                self.put(Path(self.fill(place)), drawn["credentials"], **drawn["credentials_file"])
        self.put(self.folder / "configs" / f"{name}.json", config, **drawn["config_file"])
        self.put(self.folder / "credentials" / f"{name}.json", drawn["credentials"], **drawn["credentials_file"])

    def machine(self, environ: dict[str, str]) -> Machine:
        return Machine(environ, self.home, Path.cwd(), time.time(), look)


@settings(max_examples=effort(400), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(grounds)
def test_what_is_said_is_what_the_sdk_does(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
    token_endpoint: str,
    drawn: dict[str, Any],
) -> None:
    logging.getLogger("anthropic").setLevel(logging.CRITICAL)
    ground = Ground(tmp_path_factory.mktemp("ground").resolve(), token_endpoint)
    for name in PROFILES:
        ground.profile(name, drawn[name])
    if drawn["pointer"] is not None:
        (ground.folder / "active_config").write_bytes(drawn["pointer"])
    environ = {"HOME": str(ground.home), **ground.fill(drawn["statics"]), **ground.fill(drawn["selected"])}
    expected = by_us(ground.machine(environ))
    # A grant at an address outside this machine can't be asked for in a test.
    is_granted = expected[1] in {"refreshed", "exchanged"}
    winner = sdk_chain(ground.machine(environ)).winner
    assume(not is_granted or (winner and f" at {token_endpoint}/" in winner.reason))
    event(f"{expected[0]} {'granted' if is_granted else ''}")
    assert named(by_the_sdk(monkeypatch, environ)) == expected


SOURCES: Final = {
    "ANTHROPIC_API_KEY": {"ANTHROPIC_API_KEY": "sk-ant-api03-key"},
    "ANTHROPIC_AUTH_TOKEN": {"ANTHROPIC_AUTH_TOKEN": "auth-token"},
    "ANTHROPIC_PROFILE": {"ANTHROPIC_PROFILE": "work"},
    "workload identity": {
        "ANTHROPIC_FEDERATION_RULE_ID": "rule",
        "ANTHROPIC_ORGANIZATION_ID": "organization",
        "ANTHROPIC_IDENTITY_TOKEN": "jwt",
    },
    "active profile": {},
}


def profiled(root: Path, local: str = "https://local.invalid") -> Ground:
    """Two good profiles, the active one among them."""
    ground = Ground(root.resolve(), local)
    for name in PROFILES:
        ground.put(
            ground.folder / "configs" / f"{name}.json", {"authentication": {"type": "user_oauth"}}, "file", 0o600
        )
        tokens = {"access_token": f"token-of-{name}", "expires_at": NOW + 5000}
        ground.put(ground.folder / "credentials" / f"{name}.json", tokens, "file", 0o600)
    return ground


@pytest.mark.parametrize("present", [set(some) for n in (1, 2, 3, 4, 5) for some in itertools.combinations(SOURCES, n)])
def test_of_any_set_of_sources_the_first_in_order_wins_and_shadows_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token_endpoint: str, present: set[str]
) -> None:
    ground = profiled(tmp_path, token_endpoint)
    if "active profile" not in present:
        (ground.folder / "configs" / "default.json").unlink()
    environ = {"HOME": str(ground.home), "ANTHROPIC_BASE_URL": token_endpoint}
    for name in present:
        environ |= SOURCES[name]
    chain = sdk_chain(ground.machine(environ))
    first = next(name for name in SOURCES if name in present)
    assert chain.winner is not None
    assert chain.winner.name == first
    assert {source.name for source in chain.sources if source.state == "shadowed"} == present - {first}
    assert named(by_the_sdk(monkeypatch, environ)) == by_us(ground.machine(environ))


def explain(ground: Ground, **environ: str) -> Chain:
    return sdk_chain(ground.machine(environ))


def rewrite(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def problems(chain: Chain) -> str:
    assert chain.winner is not None
    return " ".join(chain.winner.problems)


def test_what_will_bite_in_a_profile_is_reported_although_it_works(tmp_path: Path) -> None:
    ground = profiled(tmp_path)
    config, tokens = (ground.folder / kind / "default.json" for kind in ("configs", "credentials"))
    assert not problems(explain(ground))
    rewrite(tokens, expires_at=(NOW + 5000) * 1000)
    assert "milliseconds" in problems(explain(ground))
    rewrite(tokens, expires_at=NOW - 10)
    assert "has expired, and is sent all the same" in problems(explain(ground))
    rewrite(tokens, expires_at=None)
    assert "has no expires_at" in problems(explain(ground))
    rewrite(tokens, expires_at=0)
    assert not problems(explain(ground))
    rewrite(config, authentication={"type": "user_oauth", "client_id": "c"})
    rewrite(tokens, expires_at=NOW + 5000, refresh_token="r")
    assert "log each other out" in problems(explain(ground))


def test_a_profile_that_the_sdk_refuses_is_explained_with_its_file_and_the_fix(tmp_path: Path) -> None:
    ground = profiled(tmp_path)
    config, tokens = (ground.folder / kind / "default.json" for kind in ("configs", "credentials"))
    tokens.chmod(0o640)
    winner = explain(ground).winner
    assert winner is not None
    assert winner.state == "fails"
    assert f"chmod 600 '{tokens}'" in winner.reason
    config.chmod(0o666)
    assert explain(ground).winner is None
    source = explain(ground).source("active profile")
    assert (source.state, "passed over without a word" in source.reason) == ("unusable", True)
    named_one = explain(ground, ANTHROPIC_PROFILE="default").winner
    assert named_one is not None
    assert f"chmod go-w '{config}'" in named_one.reason
    (ground.folder / "active_config").write_bytes(b"\xff")
    pointed = explain(ground).winner
    assert pointed is not None
    assert "active_config is not UTF-8" in pointed.reason
    assert stat.S_IMODE(config.stat().st_mode) == 0o666, "nothing is mended"


def test_an_empty_address_and_headers_of_ones_own_are_warned_of(tmp_path: Path) -> None:
    ground = profiled(tmp_path)
    assert "unset it" in " ".join(explain(ground, ANTHROPIC_BASE_URL="").warnings)
    headers = "X-Other: 1\nAuthorization: Bearer secret-of-a-header\nX-Api-Key:"
    reported = " ".join(explain(ground, ANTHROPIC_CUSTOM_HEADERS=headers).warnings)
    assert "sets authorization" in reported
    assert "x-api-key" not in reported
    assert "secret-of-a-header" not in reported


def test_a_key_of_the_gateway_without_the_gateways_address_is_warned_of(tmp_path: Path) -> None:
    ground = Ground(tmp_path, "")
    assert explain(ground, ANTHROPIC_AUTH_TOKEN="tfk_1").warnings
    assert not explain(ground, ANTHROPIC_AUTH_TOKEN="tfk_1", ANTHROPIC_BASE_URL="http://127.0.0.1:1").warnings


@pytest.mark.parametrize("value", [" key", "key\n", "k\u00e9y", "   "])
def test_a_value_that_no_header_takes_is_reported(tmp_path: Path, value: str) -> None:
    assert "no header takes" in problems(explain(Ground(tmp_path, ""), ANTHROPIC_API_KEY=value))


def test_no_secret_is_in_what_is_said(tmp_path: Path) -> None:
    ground = profiled(tmp_path)
    environ = {"ANTHROPIC_API_KEY": "sk-ant-api03-key", "ANTHROPIC_AUTH_TOKEN": "auth-token"}
    reported = repr(sdk_chain(ground.machine(environ)))
    assert "sk-ant-api03-key" not in reported
    assert "auth-token" not in reported
    assert "token-of-" not in reported
