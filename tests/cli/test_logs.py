"""What a gateway that was started by the command logs and counts."""

import json
import logging
import os
import re
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cli.harness import begin_serving, end, eventually, tokenferry
from cli.serving import serving
from tokenferry.audit import note_change
from tokenferry.cli import _logs
from tokenferry.cli._logs import logs_on_stderr, set_level, write_log
from tokenferry.errors import StorageFailed
from tokenferry.sandbox import Sandbox
from tokenferry.settings import Home, LogSettings

Login = Callable[..., dict[str, Any]]
MESSAGE = {"model": "claude-sonnet-4-5", "max_tokens": 99, "messages": [{"role": "user", "content": "ahoy"}]}


def ask(url: str, key: str, *, stream: bool = False) -> httpx2.Response:
    headers = {"x-api-key": key, "anthropic-version": "2023-06-01", "x-claude-code-session-id": "session-1"}
    return httpx2.post(
        f"{url}/v1/messages?beta=true", json={**MESSAGE, "stream": stream}, headers=headers, trust_env=False, timeout=20
    )


def test_each_request_is_a_line_of_pairs(sandbox: Sandbox, login: Login, tmp_path: Path) -> None:
    login()
    process, url = begin_serving(tmp_path)
    key = tokenferry("token", "--gateway").out.strip()
    answers = [ask(url, key, stream=stream) for stream in (False, True)]
    answers.append(ask(url, "wrong"))
    process.terminate()
    outcome = end(process)
    lines = [line for line in outcome.err.splitlines() if " id=tf_" in line]
    assert [re.findall(r"id=(\S+)", line)[0] for line in lines] == [
        answer.headers["x-tokenferry-request-id"] for answer in answers
    ]
    usage = answers[0].json()["usage"]
    for line in lines[:2]:
        assert " status=200 upstream_status=200 client=local account=" in line
        assert " model=claude-sonnet-4-5 " in line
        assert re.search(r" input_tokens=[1-9][0-9]* ", line)
        assert f" output_tokens={usage['output_tokens']} " in line
        assert line.endswith("session=session-1")
    assert " status=401 error=authentication_error " in lines[2]
    assert outcome.hides(key)


def test_the_log_may_be_json(sandbox: Sandbox, login: Login, tmp_path: Path) -> None:
    login()
    process, url = begin_serving(tmp_path, "--log-json")
    key = tokenferry("token", "--gateway").out.strip()
    ask(url, key)
    process.terminate()
    outcome = end(process)
    entries = [json.loads(line) for line in outcome.err.splitlines() if line.startswith("{")]
    (entry,) = [entry for entry in entries if entry["logger"] == "tokenferry.access"]
    assert (entry["status"], entry["client"], entry["path"]) == (200, "local", "/v1/messages")
    assert (entry["level"], entry["session"], type(entry["time"])) == ("info", "session-1", int)
    assert outcome.hides(key)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_in_a_json_log_every_line_is_json(
    sandbox: Sandbox, login: Login, home: Home, tmp_path: Path, workers: str
) -> None:
    """Also what is told while it ends, and of a configuration that is refused."""
    login()
    sandbox.fault("slow", path="/v1/messages", seconds=3600, events=3)
    with serving(tmp_path, "--log-json", "--workers", workers) as served:
        with served.stream() as answer:
            chunks = answer.iter_raw()
            next(chunks)
            home.config.write_text("[server]\nport = 99999\n")
            served.tell(signal.SIGHUP)
            served.hears("what held before stays")
            served.tell(signal.SIGTERM)
            served.hears("waiting for 1 stream")
            served.tell(signal.SIGTERM)
        served.end()
        told = [json.loads(line) for line in served.said]
    messages = [one["message"] for one in told if one["logger"] == "tokenferry.serve"]
    assert any("waiting for 1 stream" in message for message in messages)
    assert any(one["logger"] == "tokenferry.access" for one in told)


@pytest.mark.parametrize("workers", [1, 2])
def test_metrics_cover_all_workers(sandbox: Sandbox, login: Login, tmp_path: Path, workers: int) -> None:
    login()
    admin = tokenferry("key", "create", "prometheus", "--role", "admin").out.strip()
    process, url = begin_serving(tmp_path, "--workers", str(workers))
    key = tokenferry("token", "--gateway").out.strip()
    for _ in range(12):
        assert ask(url, key).status_code == 200

    def text() -> str:
        return httpx2.get(f"{url}/metrics", headers={"x-api-key": admin}, trust_env=False, timeout=20).text

    def served() -> float:
        pattern = r'^tokenferry_requests_total\{.*model="claude-sonnet".*status="200".*\} (\S+)$'
        return sum(map(float, re.findall(pattern, text(), re.MULTILINE)))

    eventually(lambda: all(served() == 12 for _ in range(6)))  # whichever worker answers, once all have told each other
    found = text()
    assert 'tokenferry_accounts{state="fresh"} 1.0' in found
    assert ('worker="' in found) is (workers > 1)
    process.terminate()
    assert end(process).code == 0


def test_every_record_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    with logs_on_stderr():
        set_level("info")
        write_log(LogSettings(format="json"))
        logger = logging.getLogger("tokenferry.somewhere")
        logger.warning("two\nlines of %s", "sk-ant-api03-abcdefghijkl")
        try:
            int("why")
        except ValueError:
            logger.exception("it failed")
    first, second = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (first["level"], first["logger"]) == ("warning", "tokenferry.somewhere")
    assert first["message"] == "two\nlines of sk-ant-api03-[redacted]"
    assert second["message"] == "it failed"
    assert "ValueError: invalid literal" in second["exception"]


@pytest.mark.parametrize(("is_file", "most"), [(False, 4096), (True, 1_000_000)])
def test_lines_of_several_workers_do_not_mix(
    monkeypatch: pytest.MonkeyPatch,
    is_file: bool,  # noqa: FBT001  # a case
    most: int,
) -> None:
    """A pipe takes 4096 bytes as one, a file whatever is written at once."""
    written: list[str] = []
    monkeypatch.setattr("sys.stderr.write", written.append)
    monkeypatch.setattr(_logs, "_is_file", lambda: is_file)
    logger = logging.getLogger("tokenferry.access")
    lines = [f"{number:03} {'x' * 200}" for number in range(100)]
    with logs_on_stderr():
        set_level("info")
        write_log(LogSettings(format="logfmt"))
        for start in range(0, 100, 50):
            logger.info("%s", "\n".join(lines[start : start + 50]))
        logging.getLogger().handlers[-1].flush()
    assert "".join(written).splitlines() == lines
    assert (len(written) > 1) is not is_file
    assert all(len(piece) <= most and piece.endswith("\n") for piece in written)


def test_a_line_that_is_longer_than_a_pipe_takes_is_written_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr("sys.stderr.write", written.append)
    monkeypatch.setattr(_logs, "_is_file", lambda: False)
    with logs_on_stderr():
        set_level("info")
        write_log(LogSettings(format="logfmt"))
        logging.getLogger("tokenferry.access").info("a\n%s\nb", "x" * 9000)
        logging.getLogger().handlers[-1].flush()
    assert written == ["a\n", f"{'x' * 9000}\n", "b\n"]


def test_text_without_an_end_of_line_is_one_piece() -> None:
    assert list(_logs._pieces("a\nbcd", 2)) == ["a\n", "bcd"]


def test_a_format_that_is_none_is_a_configuration_error(home: Home) -> None:
    home.config.write_text('[server]\nlog_format = "xml"\n')
    outcome = tokenferry("serve")
    assert outcome.code == 3
    assert "format" in outcome.err


def test_what_runs_for_long_writes_each_record_as_a_line_with_its_date(capsys: pytest.CaptureFixture[str]) -> None:
    """Also a warning, which a command writes as a sentence to its user."""
    logger = logging.getLogger("tokenferry.pool")
    with logs_on_stderr():
        logger.warning("account a is limited")
        write_log(LogSettings(format="human"))
        logger.warning("account a is limited")
        write_log(LogSettings(format="logfmt"))
        logger.warning("account a is limited")
    note, human, logfmt = capsys.readouterr().err.splitlines()
    assert note == "tokenferry: warning: account a is limited"
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ warning pool: account a is limited", human)
    assert re.fullmatch(r'time=\d+ level=warning logger=tokenferry.pool message="account a is limited"', logfmt)


def test_auto_is_human_on_a_terminal_and_logfmt_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for is_terminal, file in ((True, None), (False, None), (True, tmp_path / "log")):
        monkeypatch.setattr(sys.stderr, "isatty", lambda answer=is_terminal: answer)
        with logs_on_stderr():
            write_log(LogSettings(file=file))
            logging.getLogger("tokenferry.pool").warning("x")
    human, logfmt = capsys.readouterr().err.splitlines()
    assert human.endswith("Z warning pool: x")
    assert logfmt.endswith("message=x")
    assert (tmp_path / "log").read_text().endswith("message=x\n")


def test_a_change_is_an_object_in_a_json_log_and_no_text_in_it(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    with logs_on_stderr():
        set_level("info")
        write_log(LogSettings(format="json"))
        note_change(home, "key.revoke", "laptop", role="client")
        write_log(LogSettings(format="logfmt"))
        note_change(home, "key.revoke", "laptop", role="client")
    first, second = capsys.readouterr().err.splitlines()
    assert json.loads(first) | {"time": 0} == {
        "time": 0,
        "level": "info",
        "logger": "tokenferry.audit",
        "action": "key.revoke",
        "name": "laptop",
        "role": "client",
        "uid": os.getuid(),
        "pid": os.getpid(),
    }
    assert " action=key.revoke name=laptop role=client " in second


def test_a_log_file_that_was_moved_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "gateway.log"
    logger = logging.getLogger("tokenferry.pool")
    with logs_on_stderr():
        write_log(LogSettings(file=path))
        logger.warning("one")
        path.rename(tmp_path / "gateway.log.1")
        logger.warning("two")
    assert (tmp_path / "gateway.log.1").read_text().endswith("message=one\n")
    assert path.read_text().endswith("message=two\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_log_file_that_cannot_be_opened_is_a_sentence(home: Home, tmp_path: Path) -> None:
    home.config.write_text(f'[log]\nfile = "{tmp_path}"\n')
    outcome = tokenferry("serve")
    assert outcome.code == StorageFailed.exit_code
    assert f"the log file {tmp_path} can't be opened" in outcome.one_line()
