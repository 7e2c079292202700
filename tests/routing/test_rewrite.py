import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.written import KEYS, NESTED, Pairs, read, texts, written
from tokenferry.routing import BodyFacts, rewrite, scan, with_members

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
OPEN, CLOSE = "<CCM-SUBAGENT-MODEL>", "</CCM-SUBAGENT-MODEL>"


def facts_of(body: bytes) -> BodyFacts:
    facts = scan([body])
    assert isinstance(facts, BodyFacts), facts
    return facts


@given(data=st.data(), old=NAMES, new=NAMES)
def test_only_the_models_text_changes(data: st.DataObject, old: str, new: str) -> None:
    others = data.draw(st.lists(st.tuples(KEYS.filter(lambda key: key.lower() != "model"), NESTED), max_size=5))
    place = data.draw(st.integers(0, len(others)))
    pairs = Pairs([*others[:place], ("model", old), *others[place:]])
    body = data.draw(written(pairs)).encode()
    facts = facts_of(body)
    changed = b"".join(rewrite(facts, new))
    start, end = facts.model_at
    assert changed.startswith(body[:start])
    assert changed.endswith(body[end:])
    assert read(changed) == Pairs((key, new if key == "model" else value) for key, value in read(body))
    if old != new:
        assert json.loads(changed[start : len(changed) - len(body) + end]) == new


@given(data=st.data(), old=NAMES)
def test_the_same_name_leaves_the_body_alone(data: st.DataObject, old: str) -> None:
    body = data.draw(written({"a": 1, "model": old})).encode()
    facts = facts_of(body)
    assert rewrite(facts, old) == [body]
    assert rewrite(facts, None) == [body]


def test_nothing_of_the_body_is_copied() -> None:
    body = b'{"model":"x","fill":"' + b"f" * 200_000 + b'"}'
    first, name, last = rewrite(facts_of(body), "other")
    assert isinstance(first, memoryview)
    assert isinstance(last, memoryview)
    assert first.obj is last.obj is body
    assert name == b'"other"'


def test_models_further_down_are_left_alone() -> None:
    body = b'{"messages":[{"model":"x","content":"\\"model\\":\\"x\\""}],"tools":[{"model":"x"}], "model" : "x"}'
    assert b"".join(rewrite(facts_of(body), "y")) == body[:-4] + b'"y"}'


@pytest.mark.parametrize("body", [b'{"model":7}', b'{"model":null}', b"{}"])
def test_a_body_without_a_model_is_given_none(body: bytes) -> None:
    assert rewrite(facts_of(body), "y") == [body]


@given(data=st.data(), name=NAMES.filter(lambda name: name.strip() and not set(name) & set("<>")))
def test_the_tag_is_removed_and_nothing_else(data: st.DataObject, name: str) -> None:
    around = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
    before, after = data.draw(around), data.draw(around)
    # An encoder may escape anything but the letters of the tag itself.
    tag = data.draw(texts("<"))[1:-1], "CCM-SUBAGENT-MODEL", data.draw(texts(">"))[1:-1]
    end = data.draw(texts("</"))[1:-1], "CCM-SUBAGENT-MODEL", data.draw(texts(">"))[1:-1]
    left, inner, right = (data.draw(texts(text))[1:-1] for text in (before, name, after))
    text = "".join((left, *tag, inner, *end, right))
    block = data.draw(st.booleans())
    first = '{"model":"x","system":'
    system = f'[{{"type":"text","text":"header"}}, {{"type" : "text","text": "{text}","cache_control":{{}}}} ]'
    body = f'{first}{system if block else chr(34) + text + chr(34)},"messages":[]}}'.encode()
    facts = facts_of(body)
    assert facts.tag is not None
    assert facts.tag.model == name.strip()
    changed = b"".join(rewrite(facts, None, without_tag=True))
    assert changed == body.replace("".join((*tag, inner, *end)).encode(), b"", 1)
    assert rewrite(facts, None) == [body]


def test_the_first_tag_names_the_model_and_all_are_removed() -> None:
    system = [f"a{OPEN}one{CLOSE}b", f"{OPEN} two {CLOSE}{OPEN}three{CLOSE}"]
    body = json.dumps({"system": [{"type": "text", "text": text} for text in system], "model": "x"}).encode()
    facts = facts_of(body)
    assert facts.tag is not None
    assert facts.tag.model == "one"
    changed = json.loads(b"".join(rewrite(facts, "one", without_tag=True)))
    assert changed == {"system": [{"type": "text", "text": "ab"}, {"type": "text", "text": ""}], "model": "one"}


@pytest.mark.parametrize(
    "system",
    [
        f"{OPEN}{CLOSE}",
        f"{OPEN} {CLOSE}",
        f"{OPEN}a",
        f"a{CLOSE}",
        f"{CLOSE}a{OPEN}",
        f"\\u003cCCM-SUBAGENT-MODEL>a{CLOSE}",
        "CCM-SUBAGENT-MODEL",
        [{"type": "text", f"{OPEN}a{CLOSE}": "x"}],
        [{"type": "text", "title": f"{OPEN}a{CLOSE}"}],
        [f"{OPEN}a{CLOSE}", 1, None],
        {"text": f"{OPEN}a{CLOSE}"},
        None,
    ],
)
def test_what_is_no_tag_in_a_text_of_the_system_prompt_is_left_alone(system: object) -> None:
    body = json.dumps({"model": "x", "system": system}).encode()
    facts = facts_of(body)
    assert facts.tag is None
    assert rewrite(facts, None, without_tag=True) == [body]


@pytest.mark.parametrize("opening", ["\\u003c", "\\u003C"])
@pytest.mark.parametrize(
    ("before", "is_tag"), [("a", True), *(("\\" * number, number % 2 == 0) for number in range(5))]
)
def test_an_escaped_opening_counts_unless_its_backslash_is_escaped(before: str, opening: str, *, is_tag: bool) -> None:
    body = f'{{"model":"x","system":"{before}{opening}CCM-SUBAGENT-MODEL>m{CLOSE}"}}'.encode()
    facts = facts_of(body)
    assert (facts.tag is not None) == is_tag
    if is_tag:
        assert json.loads(b"".join(rewrite(facts, None, without_tag=True)))["system"] == json.loads(f'"{before}"')


def test_a_tag_outside_the_system_prompt_is_left_alone() -> None:
    body = json.dumps({"model": "x", "messages": [{"role": "user", "content": f"{OPEN}a{CLOSE}"}]}).encode()
    assert facts_of(body).tag is None


@given(data=st.data())
def test_tags_are_those_of_the_prompts_text(data: st.DataObject) -> None:
    parts = data.draw(
        st.lists(
            st.sampled_from(["<", ">", "/", "\\", "<", ">", "u003c", "ä", " ", "m", "\U0001f600", "CCM-SUBAGENT-MODEL"])
        )
    )
    text = "".join(parts)
    written_parts = [part if part.startswith("CCM") else data.draw(texts(part))[1:-1] for part in parts]
    body = f'{{"model":"x","system":"{"".join(written_parts)}"}}'.encode()
    found = [tag for tag in re.finditer(f"{OPEN}([^<>]+){CLOSE}", text) if tag[1].strip()]
    facts = facts_of(body)
    assert (facts.tag is None) == (not found)
    if facts.tag is not None:
        assert facts.tag.model == found[0][1].strip()
    changed = json.loads(b"".join(rewrite(facts, None, without_tag=True)))
    assert changed["system"] == re.sub(f"{OPEN}(?! *{CLOSE})[^<>]+{CLOSE}", "", text)


@pytest.mark.parametrize("half", ["\\ud83d", "\\uDE00 "])
@pytest.mark.parametrize("block", ["%s", '[[[1]],[],{},{"text":"%s"}]'])
def test_half_a_surrogate_pair_hides_no_tag(half: str, block: str) -> None:
    text = f"{half}{OPEN}m\\ud064{half}{CLOSE}"
    system = block % text if block != "%s" else f'"{text}"'
    facts = facts_of(f'{{"a":"{half}","system":{system},"model":"x"}}'.encode())
    assert facts.tag is not None
    assert facts.tag.model == "m\ud064\ufffd"
    assert OPEN.encode() not in b"".join(rewrite(facts, None, without_tag=True))


def test_white_space_of_any_length_is_passed_over() -> None:
    space = b" \t\r\n" * 5000
    tag = f"{OPEN}m{CLOSE}".encode()
    body = space.join(
        (
            b"",
            b"{",
            b'"system"',
            b":",
            b"[",
            b"1",
            b",",
            b"{",
            b'"text"',
            b":",
            b'"' + tag + b'"',
            b"}",
            b"]",
            b",",
            b'"model"',
            b":",
            b'"x"',
            b"}",
            b"",
        )
    )
    facts = facts_of(body)
    assert facts.body[slice(*facts.model_at)] == b'"x"'
    assert facts.tag is not None
    assert json.loads(b"".join(rewrite(facts, "y", without_tag=True))) == {"system": [1, {"text": ""}], "model": "y"}


@given(st.dictionaries(st.text(max_size=3), st.integers(), max_size=3), st.sampled_from(["", " ", "\n\t"]))
def test_members_come_last_and_can_be_taken_out_again(document: dict[str, int], space: str) -> None:
    body = f"{space}{json.dumps(document)}{space}".encode()
    found, place = with_members(body, {"model": "ü", "stream": True})
    assert json.loads(found) == {**document, "model": "ü", "stream": True}
    assert list(json.loads(found))[-1] == "stream"
    assert place is not None
    assert found[: place.start] + found[place.stop :] == body


@pytest.mark.parametrize("body", [b"", b" ", b"[]", b"{", b'"}" '])
def test_what_is_no_object_gets_no_members(body: bytes) -> None:
    assert with_members(body, {"a": 1}) == (body, None)
