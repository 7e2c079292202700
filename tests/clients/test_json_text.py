import json
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaks import leaks
from tokenferry.clients import JsonText, Keys

HELPER: Final[Keys] = ("apiKeyHelper",)
URL: Final[Keys] = ("env", "ANTHROPIC_BASE_URL")

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=10
)
documents = st.fixed_dictionaries(
    {},
    optional={
        "apiKeyHelper": values,
        "env": st.dictionaries(st.sampled_from(["ANTHROPIC_BASE_URL", "A", "B"]), values),
        "permissions": values,
        'odd "key" \u26f4': values,
    },
)
layouts = st.fixed_dictionaries(
    {
        "indent": st.sampled_from([None, 1, 2, 4, "\t"]),
        "separators": st.sampled_from([None, (",", ":"), (" , ", " : ")]),
        "ensure_ascii": st.booleans(),
    }
)
edges = st.sampled_from(["", "\n", "\r\n", "  \n\n"])


def parts(text: str, keys: Keys) -> tuple[dict[str, Any], Any]:
    """The document without the value at this place, and that value."""
    document = json.loads(text)
    folder = document
    for key in keys[:-1]:
        folder = folder.get(key, {})
    value = folder.pop(keys[-1], None)
    return document, value


@given(documents, layouts, edges, st.sampled_from([HELPER, URL]), st.text())
def test_an_edit_changes_one_value_and_no_other_character(
    document: dict[str, Any], layout: dict[str, Any], edge: str, keys: Keys, value: str
) -> None:
    before = JsonText(edge + json.dumps(document, **layout) + edge)
    after = before.with_value(keys, json.dumps(value))
    expected, _ = parts(before.text, keys)
    if keys == URL:
        expected.setdefault("env", {})
    assert parts(after.text, keys) == (expected, value)
    assert list(json.loads(after.text))[: len(document)] == list(document), "the order of keys"
    old = before.raw(keys)
    if old is not None:
        assert after.with_value(keys, old).text == before.text
    elif before.raw(("env",)) not in {None, "{}"} or (keys == HELPER and document):
        assert after.without(keys).text == before.text, "what was put in is taken out without a trace"


@given(documents, layouts, st.sampled_from([HELPER, URL]))
def test_a_member_that_is_taken_out_takes_its_comma_with_it(
    document: dict[str, Any], layout: dict[str, Any], keys: Keys
) -> None:
    before = JsonText(json.dumps(document, **layout))
    after = before.without(keys)
    assert json.loads(after.text) == parts(before.text, keys)[0]
    assert after.raw(keys) is None
    assert after.without(keys).text == after.text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("{}", '{\n  "apiKeyHelper": "x"\n}'),
        ('{"a": 1}', '{"a": 1, "apiKeyHelper": "x"}'),
        ('{"a":1}\n', '{"a":1,"apiKeyHelper":"x"}\n'),
        ('{\n\t"a": 1\n}\n', '{\n\t"a": 1,\n\t"apiKeyHelper": "x"\n}\n'),
        ('{\r\n    "a": 1\r\n}', '{\r\n    "a": 1,\r\n    "apiKeyHelper": "x"\r\n}'),
        ('{ "apiKeyHelper" : "y" , "b": 2 }', '{ "apiKeyHelper" : "x" , "b": 2 }'),
    ],
)
def test_what_is_put_in_is_laid_out_as_the_document_is(before: str, after: str) -> None:
    assert JsonText(before).with_value(HELPER, '"x"').text == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{\n    "a": 1\n}', '{\n    "a": 1,\n    "env": {\n        "ANTHROPIC_BASE_URL": "x"\n    }\n}'),
        ('{"a":1}', '{"a":1,"env":{"ANTHROPIC_BASE_URL":"x"}}'),
        ('{\n  "env": {}\n}', '{\n  "env": {\n    "ANTHROPIC_BASE_URL": "x"\n  }\n}'),
        ('{\n  "env": {"A": "1"}\n}', '{\n  "env": {"A": "1", "ANTHROPIC_BASE_URL": "x"}\n}'),
    ],
)
def test_a_section_is_laid_out_as_the_document_is(before: str, after: str) -> None:
    assert JsonText(before).with_value(URL, '"x"').text == after


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('{\n  "apiKeyHelper": "secret-of-a-command", // why\n}', 2),
        ('{\n  "a": 1,\n  b: 2\n}', 3),
        ("", 1),
        ("[]", 1),
        ('{"a": 1} {"b": 2}', 1),
        ("{\n'a': 1}", 2),
    ],
)
def test_what_is_no_json_object_is_refused_with_its_line_and_without_its_text(text: str, line: int) -> None:
    with pytest.raises(ValueError, match=f"^line {line}: ") as caught:
        JsonText(text)
    assert not leaks(caught.value, "secret-of-a-command")


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": -Infinity}', '{"a":' * 100_000 + "1" + "}" * 100_000])
def test_what_other_parsers_refuse_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"isn't a value|too deep"):
        JsonText(text)


def test_a_key_that_is_there_twice_is_ambiguous() -> None:
    text = JsonText('{"apiKeyHelper": "a",\n "apiKeyHelper": "b"}')
    for edit in (lambda: text.raw(HELPER), lambda: text.without(HELPER), lambda: text.with_value(HELPER, "1")):
        with pytest.raises(ValueError, match='line 2: "apiKeyHelper" is there twice'):
            edit()


def test_a_section_that_is_no_object_is_refused() -> None:
    with pytest.raises(ValueError, match='line 2: "env" must be an object'):
        JsonText('{\n"env": "x"}').with_value(URL, "1")


def test_its_repr_shows_nothing() -> None:
    text = JsonText('{"apiKeyHelper": "secret-of-a-command"}')
    assert "secret" not in repr(text) + repr(text.text) + repr(text.raw(HELPER))


@given(documents, layouts)
def test_every_string_that_is_a_value_is_found(document: dict[str, Any], layout: dict[str, Any]) -> None:
    def strings(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [one for inner in value.values() for one in strings(inner)]
        if isinstance(value, list):
            return [one for inner in value for one in strings(inner)]
        return [value] if isinstance(value, str) else []

    text = JsonText(json.dumps(document, **layout))
    assert [one.value for one in text.strings()] == strings(document)
