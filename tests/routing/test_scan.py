import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from routing.written import KEYS, NESTED, Pairs, read, written
from tokenferry.routing import BodyFacts, Malformed, TooComplex, scan


def facts_of(body: bytes) -> BodyFacts:
    facts = scan([body])
    assert isinstance(facts, BodyFacts), facts
    return facts


def fault_of(body: bytes) -> Malformed:
    fault = scan([body])
    assert isinstance(fault, Malformed), fault
    return fault


@given(data=st.data())
def test_the_model_is_the_one_that_json_has_and_at_the_reported_position(data: st.DataObject) -> None:
    pairs = Pairs(data.draw(st.lists(st.tuples(KEYS, NESTED), max_size=6)))
    body = data.draw(written(pairs)).encode()
    models = [value for key, value in read(body) if key.lower() == "model"]
    if len(models) > 1:
        assert fault_of(body).cause == "two_models"
        return
    facts = facts_of(body)
    exact = [value for key, value in read(body) if key == "model"]
    assert facts.model == (exact[0] if exact and isinstance(exact[0], str) else None)
    start, end = facts.model_at
    if facts.model is not None:
        assert json.loads(body[start:end]) == facts.model
        others = Pairs((key, value) for key, value in read(body[:start] + b"null" + body[end:]) if key != "model")
        assert others == Pairs((key, value) for key, value in read(body) if key != "model")


@given(body=st.binary(max_size=60) | st.text(max_size=60).map(str.encode), data=st.data())
@example(body=b'{"model": "x"', data=None)
@example(body=b"\xef\xbb\xbf{}", data=None)
def test_nothing_that_is_sent_breaks_the_scan(body: bytes, data: Any) -> None:
    assert isinstance(scan([body]), BodyFacts | Malformed)


@given(data=st.data())
def test_what_is_cut_or_spoilt_is_taken_only_if_json_takes_it(data: st.DataObject) -> None:
    pairs = Pairs(data.draw(st.lists(st.tuples(KEYS, NESTED), max_size=4)))
    body = bytearray(data.draw(written(pairs)).encode())
    place = data.draw(st.integers(0, len(body) - 1))
    if data.draw(st.booleans()):
        del body[place:]
    else:
        body[place] = data.draw(st.integers(0, 255))
    found = scan([bytes(body)])
    try:
        is_json = isinstance(
            json.loads(bytes(body).decode(), object_pairs_hook=Pairs, parse_constant=float.fromhex), Pairs
        )
    except ValueError:
        is_json = False
    if isinstance(found, BodyFacts) or found.cause == "no_json":
        assert isinstance(found, BodyFacts) == is_json


@given(cuts=st.lists(st.integers(0, 60), max_size=6))
def test_chunks_are_read_as_if_they_were_one(cuts: list[int]) -> None:
    body = '{"stream":true,"model":"cläude","messages":[{"model":"x"}]}'.encode()
    places = [0, *sorted(cuts), len(body)]
    facts = scan([body[start:end] for start, end in pairwise(places)])
    assert isinstance(facts, BodyFacts)
    assert (facts.model, facts.body, facts.stream) == ("cläude", body, True)


def test_one_chunk_is_not_copied() -> None:
    body = b'{"model":"x"}'
    assert facts_of(body).body is body


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"a","model":"a"}',
        b'{"model":"a","messages":[],"model":"b"}',
        b'{"model":"a","mod\\u0065l":"b"}',
        b'{"\\u006D\\u006f\\u0064\\u0065\\u006C":"a","model":"b"}',
        b'{"model":null,"model":"b"}',
        b'{"model":"a","Model":"b"}',
        b'{"MODEL":"a","model":"b"}',
    ],
)
def test_two_models_at_the_top_level_are_refused(body: bytes) -> None:
    fault = fault_of(body)
    assert fault.cause == "two_models"
    assert "twice" in fault.message


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (b'{"model":"x"', "too early"),
        (b'{"model":"x"}}', "trailing"),
        (b'{"model":"x",}', "trailing comma"),
        (b"model=x", "invalid character"),
        (b'{"a":NaN}', "invalid character"),
        (b'{"a":-Infinity}', "invalid"),
        (b'{"a":"\xff"}', "UTF-8"),
        (b'{"\xff":1}', "UTF-8"),
        (b'{"a":"\xed\xa0\x80"}', "UTF-8"),
        (b'{"a":"\xc0\xaf"}', "UTF-8"),
        (b'{"a":"\x01"}', "invalid character"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "deep"),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "deep"),
        (b"[" * 1_000_000, "object"),
        (b'{"a":' + b"9" * 10_000 + b"}", "digits"),
        (b'{"a":[1.' + b"1" * 10_000 + b"e99999]}", "digits"),
        (b"{" + b",".join(b'"%d":0' % number for number in range(5_000)) + b"}", "members"),
        (b"[]", "object"),
        (b'"model"', "object"),
        (b"null", "object"),
        (b'{"model":"' + b"x" * 600 + b'"}', "longer"),
    ],
)
def test_what_is_no_request_is_refused_in_one_sentence(body: bytes, reason: str) -> None:
    message = fault_of(body).message
    assert reason in message
    assert "\n" not in message
    assert len(message) < 200


@pytest.mark.parametrize("at", [*range(16_370, 16_392), 40_000])
@pytest.mark.parametrize("spoilt", [False, True])
def test_a_long_text_is_checked_to_its_end_wherever_a_character_begins(at: int, *, spoilt: bool) -> None:
    letter = "⛴".encode()
    body = b'{"model":"x","a":"' + b"a" * (at - 18) + (letter[:2] if spoilt else letter) + b'"}'
    assert isinstance(scan([body]), Malformed if spoilt else BodyFacts)


@pytest.mark.parametrize("body", [b'{"Model":"x"}', b'{"a":1,"MODEL":"x"}', b'{"mode\\u006c ":"x"}'])
def test_another_spelling_is_not_the_model(body: bytes) -> None:
    assert facts_of(body).model is None


@pytest.mark.parametrize("shift", range(10))
def test_many_short_numbers_are_no_long_one(shift: int) -> None:
    """An array of token ids is long, and most samples of it are digits."""
    body = b'{"model":"x","a":"' + b"a" * shift + b'","input":[1' + b",123456789" * 1000 + b"]}"
    assert facts_of(body).model == "x"


def test_what_can_not_be_read_of_the_fallbacks_is_a_name_of_its_own() -> None:
    assert facts_of(b'{"model":"x","models":["y",1e400]}').stand_ins == ("",)


@pytest.mark.parametrize("start", [b"", b"\\u0041", b"-", b"1.", b"\\\\"])
@pytest.mark.parametrize("shift", range(0, 1024, 93))
def test_digits_in_a_text_are_no_number(start: bytes, shift: int) -> None:
    digits = start + b"9" * 4_000
    body = b'{"model":"x","a":"' + b"a" * shift + b'","b":"' + digits + b'","c":["\\ud83d",["' + digits + b'"]]}'
    assert facts_of(body).model == "x"


@pytest.mark.parametrize("shift", range(0, 1024, 93))
@pytest.mark.parametrize("before", [b"", b'"' + b"9" * 4_000 + b'",'])
def test_a_long_number_is_found_wherever_it_is(before: bytes, shift: int) -> None:
    number = b"-1.5e" + b"9" * 4_000
    body = b'{"model":"x","a":"' + b"a" * shift + b'","b":[' + before + b'"\\ud83d",' + number + b"]}"
    assert "digits" in fault_of(body).message


@pytest.mark.parametrize("name", [b"mo\\ud064el", b"mo\\uD064el", b"\\ud06dodel"])
def test_half_a_surrogate_pair_elsewhere_makes_no_other_name_the_models(name: bytes) -> None:
    facts = facts_of(b'{"a":"\\ud83d","' + name + b'":"y","model":"x"}')
    assert facts.model == "x"


@pytest.mark.parametrize("half", [b"\\ud83d", b"\\uDE00", b"\\ud83d\\n", b"\\\\\\ud83d"])
def test_half_a_surrogate_pair_is_for_the_upstream_to_judge(half: bytes) -> None:
    facts = facts_of(b'{"a":"' + half + b'","model":"x","stream":true}')
    assert (facts.model, facts.stream) == ("x", True)
    start, end = facts.model_at
    assert facts.body[start:end] == b'"x"'


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"thinking":{"type":"enabled","budget_tokens":9}}', "enabled"),
        (b'{"thinking":{"type":"adaptive"}}', "adaptive"),
        (b'{"thinking":{"type":"disabled"},"thinking":{"type":"enabled"}}', "enabled"),
        (b'{"messages":[{"thinking":{"type":"enabled"}}]}', None),
        (b'{"thinking":true}', None),
        (b'{"thinking":{"type":1}}', None),
        (b'{"thinking":null}', None),
        (b'{"generationConfig":{"thinkingConfig":{"thinkingBudget":0}}}', "disabled"),
        (b'{"generationConfig":{"thinkingConfig":{"thinkingBudget":-1}}}', "adaptive"),
        (b'{"generation_config":{"thinking_config":{"thinking_budget":9000}}}', "enabled"),
        (b'{"generationConfig":{"thinkingConfig":{"thinkingLevel":"HIGH"}}}', "enabled"),
        (b'{"generationConfig":{"thinkingConfig":{"thinkingLevel":"LOW"}}}', "adaptive"),
        (b'{"generationConfig":{"thinkingConfig":{"thinkingLevel":1}}}', None),
        (b'{"generationConfig":{"thinkingConfig":1}}', None),
        (b'{"reasoning_effort":"high"}', "enabled"),
        (b'{"reasoning_effort":"none"}', "disabled"),
        (b'{"reasoning_effort":"low"}', "adaptive"),
        (b'{"reasoning":{"effort":"xhigh","summary":"auto"}}', "enabled"),
        (b'{"reasoning_effort":1}', None),
        (b'{"reasoning_effort":null}', None),
        (b'{"reasoning":[]}', None),
        (b"{}", None),
    ],
)
def test_the_kind_of_thinking_is_the_top_levels(body: bytes, kind: str | None) -> None:
    assert facts_of(body).thinking == kind


TAG = b"<CCM-SUBAGENT-MODEL>m</CCM-SUBAGENT-MODEL>"
BOUNDS: dict[str, tuple[int, Callable[[int], bytes]]] = {
    "members of the body": (1000, lambda count: b"{" + b",".join(b'"%d":0' % one for one in range(count)) + b"}"),
    "characters of a name": (1024, lambda count: b'{"' + b"x" * count + b'":0}'),
    "characters of the model": (512, lambda count: b'{"model":"' + b"x" * count + b'"}'),
    "escaped characters of the model": (512, lambda count: b'{"model":"' + b"\\ud83d\\ude00" * count + b'"}'),
    "bytes of models": (16_384, lambda count: b'{"models":' + b'"' + b"y" * (count - 2) + b'"' + b"}"),
    "items of system": (1000, lambda count: b'{"system":[{"text":"%b"}%b]}' % (TAG, b",0" * (count - 1))),
    "commas in system": (500_000, lambda count: b'{"system":["%b",{"text":"%b"}]}' % (b"," * (count - 1), TAG)),
    "members of a block": (50, lambda count: b'{"system":[{"text":"%b"%b}]}' % (TAG, b',"a":0' * (count - 1))),
    "tools": (10_000, lambda count: b'{"tools":[{"name":"web_search"}%b]}' % (b",{}" * (count - 1))),
    "commas in tools": (500_000, lambda count: b'{"tools":[{"name":"web_search%b"}]}' % (b"," * count)),
}
"""A part of a body, its largest number, and a body with so many."""


@pytest.mark.parametrize("part", BOUNDS)
def test_a_body_is_too_complex_right_above_its_bounds(part: str) -> None:
    most, body = BOUNDS[part]
    for count in (most, most + 1):
        found = scan([body(count)])
        try:
            is_read = isinstance(found, BodyFacts) and (found.tag, found.web_search, found.stand_ins) is not None
        except TooComplex:
            is_read = False
        assert is_read == (count == most)


@pytest.mark.parametrize(
    ("body", "is_there"),
    [
        (b'{"tools":[{"name":"x","input_schema":{}},{"type":"web_search_20250305","name":"web_search"}]}', True),
        (b'{"tools":[{"type":"w\\u0065b_search"}]}', True),
        (b'{"tools":[{"type":"web_search"}]}', True),
        (b'{"tools":[{"type":"function"}],"web_search_options":{}}', True),
        (b'{"web_search_options":null}', False),
        (b'{"tools":[{"name":"web_search","input_schema":{"type":"object"}}]}', False),
        (b'{"tools":[{"type":"custom","name":"web_search"}]}', False),
        (b'{"tools":[]}', False),
        (b'{"tools":{"type":"web_search"}}', False),
        (b'{"messages":[{"tools":[{"type":"web_search"}]}]}', False),
        (b'{"tools":[{"googleSearch":{}}]}', True),
        (b'{"tools":{"google_search" : {}}}', True),
        (b'{"tools":[{"functionDeclarations":[{"name":"google_search"}]}]}', False),
        (b"{}", False),
    ],
)
def test_a_web_search_is_a_tool_of_that_type(body: bytes, *, is_there: bool) -> None:
    assert facts_of(body).web_search is is_there


@pytest.mark.parametrize(
    ("body", "key"),
    [
        (b'{"prompt_cache_key":"a\\u0062"}', "ab"),
        (b'{"prompt_cache_key":"a","prompt_cache_key":"b"}', "b"),
        (b'{"prompt_cache_key":7}', ""),
        (b'{"prompt_cache_key":null}', ""),
        (b'{"metadata":{"prompt_cache_key":"a"}}', ""),
    ],
)
def test_the_cache_key_is_a_text_at_the_top_level(body: bytes, key: str) -> None:
    assert facts_of(body).cache_key == key


@pytest.mark.parametrize(("body", "wish"), [(b'{"stream": true }', True), (b'{"stream":false}', False), (b"{}", False)])
def test_a_stream_is_asked_for_at_the_top_level(body: bytes, *, wish: bool) -> None:
    assert facts_of(body).stream is wish


def test_the_facts_repr_shows_no_body() -> None:
    assert "secret" not in repr(facts_of(b'{"model":"x","a":"secret"}'))


@pytest.mark.parametrize(
    ("written", "most"),
    [
        (b'"max_tokens":32000', 32_000),
        (b'"max_completion_tokens":7', 7),
        (b'"max_output_tokens":8', 8),
        (b'"max_tokens":null,"max_completion_tokens":7', 7),
        (b'"max_output_tokens":900,"max_tokens":1', 900),
        (b'"max_tokens":1,"max_tokens":2', 2),
        (b'"max_tokens":-1', None),
        (b'"max_tokens":0', None),
        (b'"max_tokens":"9"', None),
        (b'"max_tokens":null', None),
        (b'"max_tokens":1e400', None),
        (b'"generationConfig":{"maxOutputTokens":9}', 9),
        (b'"generation_config":{"max_output_tokens":9}', 9),
        (b'"generationConfig":{"maxOutputTokens":"9"}', None),
        (b'"generationConfig":[]', None),
        (b'"x":1', None),
    ],
)
def test_the_largest_output_is_a_number_of_tokens_or_nothing(written: bytes, most: int | None) -> None:
    assert facts_of(b"{" + written + b"}").max_tokens == most
