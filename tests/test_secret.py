import base64
import copy
import json
import logging
import pickle
import sys
import traceback
from hashlib import sha256
from io import StringIO
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import asdict

from leaks import leaks, shows
from tokenferry.credentials import ApiKey, OAuthToken
from tokenferry.secret import Fields, Redactor, Secret, fingerprint, json_fault, parse_object

VALUE = "sk-ant-ort01-Quohth8eiyai7aeMeeRahVoo4aid3Paethoh5oow"
PRINTABLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


# -- a Secret shows itself to nobody


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        ascii,
        lambda secret: f"{secret}{secret!r}{secret!s}{secret!a}",
        lambda secret: f"{secret} {[secret]} {{'a': {secret}}}",
        lambda secret: "%s %r" % (secret, secret),  # noqa: UP031  # one more way to show it
        lambda secret: "{} {!r}".format(secret, secret),  # noqa: UP032  # one more way to show it
        lambda secret: repr(ApiKey(secret)) + repr(OAuthToken(secret, secret)),
        lambda secret: repr(asdict(OAuthToken(secret, secret))),
        lambda secret: repr(copy.copy(secret)) + repr(copy.deepcopy([secret])),
        lambda secret: repr(dir(secret)),
    ],
)
def test_no_way_of_writing_a_secret_shows_it(show: Any) -> None:
    text = show(Secret(VALUE))
    assert not shows(text, VALUE)


@pytest.mark.parametrize(
    "attempt",
    [
        pickle.dumps,
        lambda secret: pickle.dumps(secret, 0),
        lambda secret: pickle.dumps([ApiKey(secret)]),
        json.dumps,
        lambda secret: json.dumps({"token": secret}),
        vars,
        lambda secret: secret.__getstate__(),
        lambda secret: format(secret, ">100"),
        lambda secret: secret + "",
        bytes,
        iter,
        len,
    ],
)
def test_what_would_take_a_secret_apart_fails_and_shows_nothing(attempt: Any) -> None:
    with pytest.raises(TypeError) as caught:
        attempt(Secret(VALUE))
    assert not leaks(caught.value, VALUE)


def test_a_secret_shows_its_fingerprint() -> None:
    digest = sha256(VALUE.encode()).hexdigest()
    assert repr(Secret(VALUE)) == f"Secret({digest[:8]})"
    assert Secret(VALUE).fingerprint == fingerprint(VALUE) == digest[:8]
    assert Secret(VALUE).sha256 == digest


@settings(deadline=None)
@given(st.text())
def test_every_text_has_a_fingerprint_of_eight_hex_digits(text: str) -> None:
    assert len(fingerprint(text)) == 8
    int(fingerprint(text), 16)


@settings(deadline=None)
@given(PRINTABLE, PRINTABLE)
def test_secrets_are_equal_when_their_values_are(one: str, other: str) -> None:
    assert Secret(one) == Secret("".join(one))
    assert hash(Secret(one)) == hash(Secret("".join(one)))
    assert (Secret(one) == Secret(other)) is (one == other)
    assert Secret(one) != one


@settings(deadline=None)
@given(PRINTABLE)
def test_every_printable_ascii_value_comes_back_as_it_was(value: str) -> None:
    assert Secret(value).reveal() == value


@pytest.mark.parametrize(
    "bad",
    [
        "",
        VALUE + "\n",
        VALUE + "\r\nx-injected: yes",
        VALUE + " ",
        "\t" + VALUE,
        VALUE + "\x00",
        VALUE + "\x7f",
        VALUE + "\xa0",
        VALUE + "é",
        VALUE + "\ud800",
        VALUE.encode(),
        [VALUE],
        {VALUE: 1},
        None,
        5,
    ],
)
def test_what_no_header_can_hold_is_refused_without_a_trace_of_it(bad: Any) -> None:
    with pytest.raises(ValueError, match="a secret must") as caught:
        Secret(bad)
    assert not leaks(caught.value, VALUE)
    traceback.TracebackException.from_exception(caught.value, capture_locals=True)  # every local has a repr


# -- Fields


def test_fields_show_their_keys_alone() -> None:
    fields = Fields(token=VALUE, nested=Fields(a=[VALUE]), list=[VALUE])
    assert repr(fields) == f"{fields}" == str(fields) == "Fields(list, nested, token)"
    assert not shows("%s" % fields, VALUE)  # noqa: UP031  # one more way to show it


def test_without_leaves_the_original_as_it_was() -> None:
    fields = Fields(a=1, b=2)
    rest = fields.without("a", "absent")
    assert (rest, fields) == ({"b": 2}, {"a": 1, "b": 2})
    assert isinstance(rest, Fields)


# -- parse_object


@settings(deadline=None)
@given(st.dictionaries(st.text(), JSON))
def test_every_json_object_is_read_as_it_is(value: dict[str, Any]) -> None:
    assert parse_object(json.dumps(value).encode()) == value
    assert parse_object(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")) == value


@settings(deadline=None)
@given(st.dictionaries(st.text(), JSON))
def test_every_object_within_hides_its_values(value: dict[str, Any]) -> None:
    def check(part: object) -> None:
        if isinstance(part, dict):
            assert isinstance(part, Fields)
            for inner in part.values():
                check(inner)
        elif isinstance(part, list):
            for inner in part:
                check(inner)

    check(parse_object(json.dumps(value).encode()))


@settings(deadline=None)
@given(st.binary() | st.text().map(str.encode) | JSON.map(lambda value: json.dumps(value).encode()))
@example(b"")
@example(b"\xef\xbb\xbf")
@example(b"\xff\xfe{\x00")
@example(b"\x00\x00\xfe\xff")
@example(b"[" * 100_000)
@example(b'{"a":' * 100_000)
@example(b'{"a":' + b"9" * 5000 + b"}")
@example(b'{"a": "\xff"}')
@example(b'{"a": 1} {"b": 2}')
@example(b'{"a": NaN')
def test_nothing_makes_it_raise_and_only_objects_come_out(raw: bytes) -> None:
    fields = parse_object(raw)
    assert fields is None or isinstance(fields, Fields)


@pytest.mark.parametrize("raw", [b"[]", b'"text"', b"1", b"null", b"true", b"NaN", b"{'a': 1}", b"{}x", b"\xff{}"])
def test_what_is_no_object_is_none(raw: bytes) -> None:
    assert parse_object(raw) is None


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999"])
def test_a_number_that_json_has_not_counts_as_null_and_can_be_written_again(number: bytes) -> None:
    fields = parse_object(b'{"token": "x", "odd": ' + number + b', "list": [' + number + b"]}")
    assert fields == {"token": "x", "odd": None, "list": [None]}
    assert parse_object(json.dumps(fields).encode()) == fields


def test_the_last_of_two_equal_keys_counts() -> None:
    assert parse_object(b'{"a": 1, "a": 2}') == {"a": 2}


def test_a_byte_order_mark_is_no_part_of_the_object() -> None:
    assert parse_object(b"\xef\xbb\xbf{}") == {}


# -- Redactor


def rendered(redactor: Redactor, message: object, *args: object, **options: Any) -> str:
    """What a handler with this filter writes."""
    stream = StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(redactor)
    log = logging.Logger("test")  # noqa: LOG001  # one of its own, outside the tree
    log.addHandler(handler)
    log.error(message, *args, **options)
    return stream.getvalue()


def knowing(*values: str) -> Redactor:
    redactor = Redactor()
    for value in values:
        redactor.know(Secret(value))
    return redactor


@pytest.mark.parametrize(
    ("message", "args"),
    [
        (f"token {VALUE}", ()),
        ("token %s", (VALUE,)),
        ("%(token)s", ({"token": VALUE},)),
        ("%r", ([{"deep": (VALUE,)}],)),
        ("%s", (Exception(VALUE),)),
        (Exception(VALUE), ()),
        (f"https://host/?key={VALUE}&key={VALUE}", ()),
        (f"%d {VALUE}", ("no number",)),
        ("%s %s", (VALUE,)),
    ],
)
def test_a_known_value_is_in_no_record(message: object, args: tuple[object, ...], capfd: Any) -> None:
    text = rendered(knowing(VALUE), message, *args)
    assert "[redacted]" in text
    assert not shows(text + capfd.readouterr().err, VALUE)


def test_a_record_without_known_values_stays_as_it_was() -> None:
    assert rendered(knowing(VALUE), "%s is %d%%", "load", 90) == "load is 90%\n"
    assert rendered(Redactor(), "token %s", VALUE) == f"token {VALUE}\n"


def test_a_value_of_a_few_characters_makes_no_text_unreadable() -> None:
    assert rendered(knowing("a", "abc", VALUE), "as an abc of %s", VALUE) == "as an abc of [redacted]\n"


def test_a_known_value_is_in_no_traceback() -> None:
    try:
        int(VALUE)
    except ValueError:
        text = rendered(knowing(VALUE), "failed", exc_info=sys.exc_info())
    assert "base 10: '[redacted]'" in text
    assert not shows(text, VALUE)


def test_no_later_formatter_gets_at_the_exception_itself() -> None:
    try:
        int(VALUE)
    except ValueError:
        record = logging.LogRecord("test", logging.ERROR, "", 0, "failed", None, sys.exc_info())
    assert knowing(VALUE).filter(record)
    assert record.exc_info is None


def test_a_traceback_that_another_handler_rendered_is_cleaned_too() -> None:
    record = logging.LogRecord("test", logging.ERROR, "", 0, "failed", None, None)
    record.exc_text = f"Traceback: {VALUE}"
    assert knowing(VALUE).filter(record)
    assert not shows(logging.Formatter().format(record), VALUE)


def test_a_record_with_an_empty_exc_info_passes() -> None:
    assert rendered(knowing(VALUE), "fine", exc_info=(None, None, None)).startswith("fine")


@settings(deadline=None)
@given(st.lists(PRINTABLE.filter(lambda value: len(value) > 3), min_size=1), st.randoms(use_true_random=False))
def test_of_values_that_begin_alike_nothing_is_left(tails: list[str], rng: Any) -> None:
    values = ["".join(tails[: end + 1]) for end in range(len(tails))]
    rng.shuffle(values)
    for value in values:
        assert knowing(*values).clean(f"<{value}>") == "<[redacted]>"


def test_the_finder_of_leaks_finds_a_value_its_beginning_and_its_base64() -> None:
    for shown in (VALUE, VALUE[:20], base64.b64encode(VALUE.encode()).decode()):
        assert leaks(ValueError(f"it was {shown}!"), VALUE)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a" 1}', "line 1: a key has no colon after it"),
        ('{"a":\n1 "b": 2}', "line 2: a comma or a closing bracket is missing"),
        ("{'a': 1}", "line 1: a key in double quotes is missing"),
        ('{"a": }', "line 1: a value is missing"),
        ('{"a": "b}', "line 1: a text has no quote"),
        ('{"a": "\\x"}', "line 1: an escape in a text names no character"),
        ("{} {}", "line 1: something follows"),
    ],
)
def test_a_fault_in_json_is_said_in_plain_words(text: str, says: str) -> None:
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads(text)
    assert json_fault(caught.value).startswith(says)
