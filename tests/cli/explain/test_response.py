import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.harness import Outcome, tokenferry

Inside = Callable[..., Outcome]
ANSWERS = Path(__file__).parents[2] / "limits" / "answers"


def test_it_says_what_an_answer_means_what_comes_next_and_until_when(inside: Inside) -> None:
    outcome = inside("explain", "response", str(ANSWERS / "429-5h-rejected.http"))
    assert outcome.code == 0
    assert outcome.err == ""
    assert outcome.out.splitlines() == [
        "answer    429 rate_limit_error: This request would exceed your account's rate limit. Please try again later. "
        "(at 2027-01-15T08:00:00Z)",
        "means     The account has used up its window 5h.",
        "scope     account; cause window",
        "action    go on to the next account",
        "cooldown  until 2027-01-15T11:00:00Z, in 3 h, and 1 to 30 s more",
        "limits    subscription rejected, for five_hour",
        "window    5h rejected, 102% used, until 2027-01-15T11:00:00Z",
        "window    7d allowed, 31% used, until 2027-01-19T08:00:00Z",
        "overage   rejected because of out_of_credits",
    ]


def test_as_json_it_tells_the_same(inside: Inside) -> None:
    told = inside("explain", "response", str(ANSWERS / "429-api-key.http"), "--json").json
    expected = json.loads((ANSWERS / "429-api-key.json").read_text())
    del expected["note"]
    assert {key: told[key] for key in expected} == expected
    assert (told["at"], told["status"], told["error"]["type"]) == (1_800_000_000, 429, "rate_limit_error")
    bucket = {"name": "requests", "limit": 4000, "remaining": 3993, "reset": 1_800_000_041}
    assert bucket in told["limits"]["buckets"]


@pytest.mark.parametrize("path", sorted(ANSWERS.glob("*.http")), ids=lambda path: path.stem)
def test_every_recorded_answer_is_explained_in_both_ways(path: Path, inside: Inside) -> None:
    expected = json.loads(path.with_suffix(".json").read_text())
    options = ("--format", expected["format"]) if "format" in expected else ()
    outcome = inside("explain", "response", str(path), *options)
    assert outcome.code == 0, outcome.err
    assert f"; cause {expected['cause']}\n" in outcome.out
    told = inside("explain", "response", str(path), "--json", *options).json
    assert (told["cause"], told["until"]) == (expected["cause"], expected["until"])


@pytest.mark.parametrize("now", ["1800010790", "2027-01-15T10:59:50Z"])
def test_the_time_may_be_given(now: str, inside: Inside) -> None:
    told = inside("explain", "response", str(ANSWERS / "429-5h-rejected.http"), "--now", now).out
    assert "until 2027-01-15T11:00:00Z, in 10 s" in told


def test_without_a_date_it_has_come_just_now(tmp_path: Path, inside: Inside) -> None:
    file = tmp_path / "answer"
    file.write_text("HTTP/1.1 429 Too Many Requests\nretry-after: 600\n\n")
    told = inside("explain", "response", str(file), "--json").json
    assert told["until"] - told["at"] in {600, 601}
    assert told["at"] > 1_750_000_000


def test_openai_is_known_by_its_headers(tmp_path: Path, inside: Inside) -> None:
    told = inside("explain", "response", str(ANSWERS / "openai-429-no-retry-after.http"), "--json").json
    assert [bucket["name"] for bucket in told["limits"]["buckets"]] == ["requests", "tokens"]


def test_a_compressed_body_is_read_or_named_as_unread(tmp_path: Path, inside: Inside) -> None:
    answer = (ANSWERS / "429-compressed.http").read_bytes()
    assert "rate_limit_error" in inside("explain", "response", str(ANSWERS / "429-compressed.http")).out
    told = inside("explain", "response", str(ANSWERS / "429-compressed.http"), "--json").json
    assert (told["error"]["type"], told["error"]["compressed"]) == ("rate_limit_error", "gzip")
    file = tmp_path / "answer"
    file.write_bytes(answer.replace(b"content-encoding: gzip", b"content-encoding: br"))
    assert "its body is compressed (br) and was not read" in inside("explain", "response", str(file)).out
    told = inside("explain", "response", str(file), "--json").json
    assert told["error"] == {"type": None, "message": None, "compressed": "br"}


def test_it_reads_stdin_and_shows_neither_secrets_nor_control_characters() -> None:
    key = "sk-ant-api03-" + "Aa0" * 20
    body = json.dumps({"error": {"type": "x\x1b[2J", "message": f"bad key {key}\nagain\x1b]0;hi\x07"}})
    raw = f"HTTP/1.1 401 Unauthorized\nauthorization: Bearer {key}\n\n{body}"
    for options in ((), ("--json",)):
        outcome = tokenferry("explain", "response", "-", *options, stdin=raw)
        assert outcome.code == 0, outcome.err
        assert outcome.hides(key)
        assert "\x1b" not in outcome.out
    assert "until its next login or key" in tokenferry("explain", "response", "-", stdin=raw).out


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("/nonexistent/answer",), 2, "/nonexistent/answer can't be read: No such file or directory"),
        (("/",), 2, "/ can't be read: Is a directory"),
        (("-", "--now", "noon"), 2, "--now 'noon' is not a time"),
        (("-", "--format", "telex"), 2, "not 'telex'"),
        ((), 2, "missing argument"),
        (("-",), 1, "this is not an HTTP response"),
    ],
)
def test_bad_input_is_reported_in_one_sentence(arguments: tuple[str, ...], code: int, told: str) -> None:
    outcome = tokenferry("explain", "response", *arguments, stdin='{"error": {}}')
    assert outcome.code == code
    assert told in outcome.one_line()


def test_a_file_without_end_is_refused(inside: Inside) -> None:
    outcome = inside("explain", "response", "/dev/zero")
    assert outcome.code == 2
    assert "larger than 16 MiB" in outcome.one_line()
