import json
import logging
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenferry.gateway.telemetry.access_log import AccessLog, LogLine
from tokenferry.gateway.telemetry.record import RequestRecord
from tokenferry.routing import loggable, loggable_path
from tokenferry.streaming import TokenUsage


def record(**fields: object) -> RequestRecord:
    made = RequestRecord("tf_1", "POST", "/v1/messages", 1_700_000_000.5, status=200)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


class Lines(logging.Handler):
    """Keeps messages; `hold` makes it as slow as a reader can be."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.threads: set[str] = set()
        self.flushed = 0
        self.go = threading.Event()
        self.go.set()
        self.reached = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.reached.set()
        assert self.go.wait(60)
        self.threads.add(threading.current_thread().name)
        self.texts += record.getMessage().split("\n")

    def flush(self) -> None:
        self.flushed += 1


@pytest.fixture
def lines() -> Iterator[Lines]:
    logger = logging.getLogger("tokenferry.access")
    handler = Lines()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def test_a_line_tells_all_that_is_known_of_a_request() -> None:
    line = LogLine(
        record(
            client="laptop", account="work", provider="anthropic", model="claude-sonnet-4-5", upstream_status=200,
            first_byte=0.4121, duration=3.1, bytes_in=2048, bytes_out=5321, attempts=1, usage=TokenUsage(12, 34, 0, 5),
            session="a-b", agent="c", parent_agent="d",
        )
    )  # fmt: skip
    assert str(line) == (
        "time=1700000000 level=info logger=tokenferry.access id=tf_1 method=POST path=/v1/messages status=200 "
        "upstream_status=200 client=laptop "
        "account=work provider=anthropic model=claude-sonnet-4-5 first_byte_ms=412 ms=3100 bytes_in=2048 "
        "bytes_out=5321 attempts=1 input_tokens=12 output_tokens=34 cache_creation_tokens=0 cache_read_tokens=5 "
        "session=a-b agent=c parent_agent=d"
    )
    assert line.fields()["cache_read_tokens"] == 5
    assert json.loads(json.dumps(line.fields())) == line.fields()
    assert line.sentence() == (
        "200 POST /v1/messages, claude-sonnet-4-5, by work at anthropic, 12 in, 34 out, 3.1 s, key laptop, tf_1"
    )


def test_what_is_unknown_is_left_out() -> None:
    assert str(LogLine(record(status=401, error="authentication_error"))) == (
        "time=1700000000 level=info logger=tokenferry.access id=tf_1 method=POST path=/v1/messages status=401 "
        "error=authentication_error ms=0 bytes_in=0 "
        "bytes_out=0 attempts=0"
    )


def test_a_provider_with_an_odd_name_is_quoted() -> None:
    assert ' provider="my own \\u26f4\\n" ' in str(LogLine(record(provider="my own ⛴\n")))


@given(st.binary())
def test_whatever_a_client_sends_a_line_is_one_line_of_plain_words(value: bytes) -> None:
    words = loggable(value)
    line = str(LogLine(record(path=loggable_path(value), session=words, model=words)))
    assert line.isprintable()
    assert line.isascii()
    assert line.count("session=") <= 1 + value.count(b"session=")


def test_lines_are_written_in_order_on_another_thread(lines: Lines) -> None:
    with AccessLog(interval=0.001) as log:
        for number in range(500):
            log.add(record(request_id=f"tf_{number}"))
    assert [text.split()[3] for text in lines.texts] == [f"id=tf_{number}" for number in range(500)]
    assert lines.threads == {"tokenferry-access-log"}
    assert 0 < lines.flushed < 500
    assert log.dropped == 0


def test_a_log_without_a_reader_delays_no_request(lines: Lines, caplog: pytest.LogCaptureFixture) -> None:
    lines.go.clear()
    with AccessLog(limit=10, interval=0.0) as log:
        log.add(record())
        lines.reached.wait(10)
        for _ in range(50):
            log.add(record())
        assert log.dropped == 40
        lines.go.set()
    assert len(lines.texts) == 11
    assert "40 lines of the access log were dropped" in caplog.text


def test_a_log_whose_reader_has_gone_goes_on(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise BrokenPipeError

    monkeypatch.setattr(lines, "flush", broken)
    with AccessLog(interval=0.0) as log:
        log.later(broken)
        for _ in range(3):
            lines.reached.clear()
            log.add(record())
            assert lines.reached.wait(10)
    assert len(lines.texts) == 3


def test_a_slow_access_log_delays_no_other_log(lines: Lines) -> None:
    ours, other = logging.getLogger("tokenferry"), logging.getLogger("tokenferry.anything")
    ours.addHandler(lines)
    lines.go.clear()
    with AccessLog(interval=0.0) as log:
        with log.instead_of(ours):
            log.add(record())
            assert lines.reached.wait(10)
            other.warning("said %d times", 1)  # would wait for the handler's lock, or for its reader
            log.later(lambda: lines.texts.append("done in its turn"))
            lines.go.set()
        assert ours.handlers == [lines]
        ours.removeHandler(lines)
    assert lines.texts[-2:] == ["said 1 times", "done in its turn"]
    assert lines.threads == {"tokenferry-access-log"}


def test_where_no_line_is_wanted_none_is_kept(lines: Lines) -> None:
    logging.getLogger("tokenferry.access").setLevel(logging.WARNING)
    log = AccessLog(limit=1)
    for _ in range(5):
        log.add(record())
    with log:
        pass
    assert (lines.texts, log.dropped) == ([], 0)
