import stat
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.harness import Outcome, tokenferry
from tokenferry.cli import config as command
from tokenferry.config import SECTIONS, template
from tokenferry.settings import Home

Inside = Callable[..., Outcome]

KEY = "sk-ant-api03-abcdefghijklmnop"
TEXT = "# mine\n[server]\nport = 8080 # ours\n"


@pytest.fixture
def written(home: Home) -> Path:
    home.config.parent.mkdir(mode=0o700, exist_ok=True)
    home.config.write_text(TEXT)
    home.config.chmod(0o640)
    return home.config


def test_a_setting_is_set_and_the_rest_stays_as_it_was(written: Path, inside: Inside, home: Home) -> None:
    outcome = inside("config", "set", "server.port", "9090", "router.providers", "anthropic")
    assert outcome.code == 0, outcome.err
    assert outcome.out == 'server.port = 9090\nrouter.providers = ["anthropic"]\n'
    assert written.read_text() == TEXT.replace("8080", "9090") + '\n[router]\nproviders = ["anthropic"]\n'
    assert stat.S_IMODE(written.stat().st_mode) == 0o640
    assert '"server.port,router.providers"' in home.audit.read_text()
    assert inside("config", "set", "--unset", "router.providers").out == "router.providers = []\n"
    assert inside("config", "get", "server.port").out == "9090\n"


def test_the_first_setting_makes_a_file_that_is_ours_alone(home: Home, inside: Inside) -> None:
    assert inside("config", "set", "server.port", "9090").code == 0
    assert home.config.read_text() == "[server]\nport = 9090\n"
    assert stat.S_IMODE(home.config.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("server.port", "99999"), 3, ("server.port must be a whole number from 0 to 65535",)),
        (("server.port", "x", "server.workers", "0"), 3, ("server.port must be", "server.workers must be")),
        (("server.tls_cert", "a.pem"), 3, ("tls_key must be set together",)),
        (("server.host", '"a"\nport = 1'), 3, ("server.host must be an address or a name",)),
        (("providers.a\nb.base_url", "https://x.example"), 4, ("there is no setting",)),
        (("server.prot", "1"), 4, ("did you mean server.port?",)),
        (("server.port",), 2, ("has no value",)),
        ((), 2, ("no setting was given",)),
        (("policy.subscriptions", "own"), 7, ("tokenferry policy set own-use",)),
        (("policy.subscriptions", "'own'"), 7, ("tokenferry policy set own-use",)),
        (("providers.idp.base_url", "https://x.example", "providers.idp.api_key", KEY), 3, ("does not belong here",)),
    ],
)
def test_what_could_not_be_used_is_not_written(
    written: Path, inside: Inside, arguments: tuple[str, ...], code: int, words: tuple[str, ...]
) -> None:
    outcome = inside("config", "set", *arguments)
    assert outcome.code == code
    assert all(word in outcome.err for word in words)
    assert outcome.hides(KEY)
    assert written.read_text() == TEXT


def test_earlier_faults_do_not_prevent_fixing_one(home: Home, inside: Inside) -> None:
    home.config.parent.mkdir(mode=0o700, exist_ok=True)
    home.config.write_text('[server]\nport = "x"\nworkers = 0\n')
    home.config.chmod(0o600)
    outcome = inside("config", "set", "server.port", "9090")
    assert outcome.code == 0
    assert "is still invalid: line 3: server.workers must be" in outcome.err
    assert home.config.read_text() == "[server]\nport = 9090\nworkers = 0\n"


def test_check_lists_every_fault(home: Home, inside: Inside) -> None:
    assert inside("config", "check").out == f"there is no {home.config}, so the defaults apply\n"
    home.config.write_text('[server]\nport = "x"\nhots = 1\n[gatewy]\n')
    home.config.chmod(0o600)
    outcome = inside("config", "check")
    assert outcome.code == 3
    assert outcome.err.count("\n") == 4
    told = inside("config", "check", "--json")
    assert told.code == 3
    assert len(told.json["problems"]) == 3
    home.config.write_text("[server\n")
    assert inside("config", "check").code == 3
    told = inside("config", "check", "--json")
    assert told.code == 3
    assert "is not valid TOML" in told.json["problems"][0]
    home.config.write_text(TEXT)
    assert inside("config", "check").out == f"{home.config} is valid\n"
    assert inside("config", "check", "--json").json["problems"] == []


def test_a_file_that_was_named_must_be_there(tmp_path: Path, inside: Inside) -> None:
    for arguments in (("check",), ("show",), ("get", "server.port")):
        assert inside("config", *arguments, "--config", str(tmp_path / "no.toml")).code == 3


def test_show_tells_each_setting_its_source_and_no_secret(
    home: Home, inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IDP_KEY", KEY)
    inside("config", "set", "providers.idp.base_url", "https://x.example", "providers.idp.api_key", "$IDP_KEY")
    shown = inside("config", "show")
    lines = {line.split(" = ")[0]: line for line in shown.out.splitlines()}
    assert lines["server.port"].split() == ["server.port", "=", "13456", "#", "default"]
    origin = f"# {home.config}:4; from the variable IDP_KEY; names a key with fingerprint "
    assert origin in lines["providers.idp.api_key"]
    assert "providers.idp.oauth.authorize_parameters = {}" in shown.out
    assert "providers.anthropic" not in shown.out
    assert "providers.anthropic.base_url" in inside("config", "show", "--all").out
    told = inside("config", "show", "--json")
    (key,) = [one for one in told.json["settings"] if one["path"] == "providers.idp.api_key"]
    assert key["value"] == "$IDP_KEY"
    assert (key["source"], key["line"], key["variable"]) == ("config.toml", 4, "IDP_KEY")
    assert len(key["fingerprint"]) == 8
    assert shown.hides(KEY)
    assert told.hides(KEY)


def test_show_and_get_hide_texts_that_may_be_secrets(home: Home, inside: Inside) -> None:
    home.config.write_text(
        '[alerts]\nwebhook = "https://hooks.example/T0/in-the-path"\n'
        '[[providers]]\nname = "idp"\nbase_url = "https://x.example"\nheaders = { x-team = "in-the-header" }\n'
        '[providers.token_exchange]\nurl = "https://x.example/token"\nmethod = "GET"\n'
        'headers = { authorization = "Bearer {token}", x-key = "in-the-exchange" }\n'
    )
    home.config.chmod(0o600)
    for arguments in (("show",), ("show", "--json"), ("get", "providers.idp"), ("get", "alerts.webhook", "--json")):
        outcome = inside("config", *arguments)
        assert outcome.code == 0, outcome.err
        assert "(hidden)" in outcome.out
        for text in ("in-the-path", "in-the-header", "in-the-exchange"):
            assert outcome.hides(text)
    assert 'headers = {"authorization" = "Bearer {token}", "x-key" = "(hidden)"}' in inside("config", "show").out


def test_show_lists_every_key_that_there_is(home: Home, inside: Inside) -> None:
    plain = [section for section in SECTIONS if not section.is_list and len(section.path) == 1]
    expected = [f"{section.name}.{key.name}" for section in plain for key in section.keys]
    lines = inside("config", "show").out.splitlines()
    assert [line.split(" = ")[0] for line in lines] == expected
    assert [line.split()[-2:] for line in lines if line.startswith("server.uds ")] == [["not", "set"]]


def test_init_writes_every_key_and_never_over_a_file(home: Home, inside: Inside, tmp_path: Path) -> None:
    assert inside("config", "init").code == 0
    assert home.config.read_text() == template()
    assert stat.S_IMODE(home.config.stat().st_mode) == 0o600
    home.config.write_text("[server]\n")
    refused = inside("config", "init")
    assert (refused.code, home.config.read_text()) == (2, "[server]\n")
    assert "is not overwritten" in refused.one_line()
    assert inside("config", "init", "--config", str(tmp_path / "new.toml")).code == 0
    assert (tmp_path / "new.toml").read_text() == template()


def test_schema_prints_json(inside: Inside) -> None:
    assert inside("config", "schema").json["properties"]["server"]["properties"]["port"]["default"] == 13_456


def test_unset_takes_settings_out_and_leaves_the_rest(written: Path, inside: Inside) -> None:
    assert inside("config", "set", "pool.max_queue", "5", "server.workers", "2").code == 0
    outcome = inside("config", "unset", "pool.max_queue", "server.workers")
    assert outcome.out == "pool.max_queue = 100\nserver.workers = 1\n"
    assert written.read_text() == f"{TEXT}\n[pool]\n"
    assert inside("config", "unset", "pool.max_queu").code == 4


def test_get_prints_one_setting_or_a_section(written: Path, inside: Inside) -> None:
    assert inside("config", "get", "server.host").out == "127.0.0.1\n"
    assert inside("config", "get", "server.uds").out == "\n"
    assert inside("config", "get", "server.uds", "--json").json is None
    assert inside("config", "get", "providers.anthropic.base_url").out == "https://api.anthropic.com\n"
    assert "server.port = 8080\n" in inside("config", "get", "server").out
    assert inside("config", "get", "server", "--json").json["port"] == 8080
    assert inside("config", "get", "providers.claude-max.oauth.authorize_parameters").out == '{"code": "true"}\n'
    outcome = inside("config", "get", "server.prot")
    assert outcome.code == 4
    assert "did you mean server.port?" in outcome.one_line()


def editor(path: Path, old: str, new: str, code: int = 0) -> str:
    """A program that edits as people do, and ends with this code."""
    path.write_text(
        "import pathlib, sys\n"
        "file = pathlib.Path(sys.argv[1])\n"
        f"file.write_text(file.read_text().replace({old!r}, {new!r}))\n"
        f"sys.exit({code})\n"
    )
    return f"{sys.executable} '{path}'"


def copies(home: Home) -> list[Path]:
    return [each for each in home.path.iterdir() if each.name.startswith(".config")]


def test_edit_puts_the_result_in_place(
    written: Path, inside: Inside, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDITOR", "false")
    monkeypatch.setenv("VISUAL", editor(tmp_path / "ed it.py", "8080", "9090"))
    assert inside("config", "edit").out == f"changed {written}\n"
    assert written.read_text() == TEXT.replace("8080", "9090")
    assert stat.S_IMODE(written.stat().st_mode) == 0o640
    assert inside("config", "edit").out == "nothing was changed\n"
    assert copies(home) == []


def test_edit_without_a_file_shows_every_key_and_makes_none_for_nothing(
    home: Home, inside: Inside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISUAL", "true")
    assert inside("config", "edit").out == "nothing was changed\n"
    assert not home.config.exists()
    monkeypatch.setenv("VISUAL", editor(tmp_path / "edit.py", "# port = 13456", "port = 1"))
    assert inside("config", "edit").code == 0
    assert tomllib.loads(home.config.read_text())["server"] == {"port": 1}
    assert stat.S_IMODE(home.config.stat().st_mode) == 0o600


def test_an_editor_that_takes_the_copy_away_changes_nothing(
    written: Path, inside: Inside, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISUAL", "rm")
    outcome = inside("config", "edit")
    assert outcome.code == 1
    assert "nothing was changed" in outcome.one_line()
    assert written.read_text() == TEXT


def test_edit_keeps_no_copy_of_what_was_not_changed(
    written: Path, inside: Inside, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    written.write_text("[server")
    monkeypatch.setenv("VISUAL", "true")
    monkeypatch.setattr("sys.stdin", None)
    outcome = inside("config", "edit")
    assert outcome.code == 3
    assert "kept" not in outcome.err
    assert copies(home) == []


@pytest.mark.parametrize(
    ("new", "code", "words"),
    [("99999", 0, "must be a whole number"), ("[", 0, "is not valid TOML"), ("9090", 3, "exit code 3")],
)
def test_edit_keeps_the_text_that_can_not_be_used(
    written: Path,
    inside: Inside,
    *,
    home: Home,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    new: str,
    code: int,
    words: str,
) -> None:
    monkeypatch.setenv("VISUAL", editor(tmp_path / "edit.py", "8080", new, code))
    monkeypatch.setattr("sys.stdin", None)
    outcome = inside("config", "edit")
    assert outcome.code == (1 if code else 3)
    assert words in outcome.err
    (copy,) = copies(home)
    assert str(copy) in outcome.err
    assert copy.read_text() == TEXT.replace("8080", new)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert written.read_text() == TEXT


def test_edit_keeps_the_text_when_the_file_was_changed_since(
    written: Path, inside: Inside, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "edit.py"
    program = editor(script, "8080", "9090")
    script.write_text(f"import pathlib\npathlib.Path({str(written)!r}).write_text('# theirs')\n{script.read_text()}")
    monkeypatch.setenv("VISUAL", program)
    outcome = inside("config", "edit")
    assert outcome.code == 1
    assert "changed by another program" in outcome.err
    assert written.read_text() == "# theirs"
    assert [copy.read_text() for copy in copies(home)] == [TEXT.replace("8080", "9090")]


def test_edit_offers_to_go_on_and_ends_when_it_can_be_used(
    written: Path, inside: Inside, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first round makes 99999 of 8080, the second 9090 of that."""
    script = tmp_path / "edit.py"
    script.write_text(
        "import pathlib, sys\nfile = pathlib.Path(sys.argv[1])\ntext = file.read_text()\n"
        "file.write_text(text.replace('99999', '9090') if '99999' in text else text.replace('8080', '99999'))\n"
    )
    monkeypatch.setenv("VISUAL", f"{sys.executable} {script}")
    monkeypatch.setattr(command, "confirmed", lambda *_, **__: True)

    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal())
    outcome = inside("config", "edit")
    assert outcome.code == 0
    assert "must be a whole number" in outcome.err
    assert written.read_text() == TEXT.replace("8080", "9090")
    assert copies(home) == []


def test_an_editor_that_is_not_there_is_reported(
    written: Path, inside: Inside, monkeypatch: pytest.MonkeyPatch, home: Home
) -> None:
    monkeypatch.setenv("VISUAL", "no-such-editor --wait")
    outcome = inside("config", "edit")
    assert outcome.code == 2
    assert "VISUAL" in outcome.err


def test_a_gateway_that_would_be_its_own_upstream_is_a_fault(home: Home, inside: Inside) -> None:
    home.config.write_text('[server]\nport = 4567\n[[providers]]\nname = "own"\nbase_url = "http://localhost:4567"\n')
    home.config.chmod(0o600)
    told = inside("config", "check")
    assert told.code == 3
    assert "providers.own.base_url http://localhost:4567 is its own address" in told.one_line()
    (problem,) = inside("config", "check", "--json").json["problems"]
    assert "its own address" in problem
    refused = tokenferry("serve")
    assert refused.code == 3
    assert "its own upstream" in refused.one_line()
    home.config.write_text('[[providers]]\nname = "own"\nbase_url = "http://127.0.0.1:4567"\n')
    assert inside("config", "check").code == 0
    assert tokenferry("serve", "--port", "4567").code == 3
