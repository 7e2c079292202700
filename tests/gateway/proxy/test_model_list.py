import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenferry.gateway.proxy.model_list import ModelList
from tokenferry.settings import ModelMapping, ModelSettings

NAMES = ("glm", "Kimi", "claude-mine")
LIST = ModelList([ModelSettings(name, (ModelMapping("p", name),), name.upper()) for name in NAMES])
UPSTREAMS = {
    "data": [{"type": "model", "id": name, "display_name": name, "x": 1} for name in ("claude-a", "glm")],
    "has_more": True,
    "first_id": "claude-a",
    "last_id": "glm",
}


def everything(_: str) -> bool:
    return True


def ids(answer: bytes | None) -> list[str]:
    assert answer is not None
    return [one["id"] for one in json.loads(answer)["data"]]


def test_alone_it_is_a_list_as_the_api_gives_it() -> None:
    answer = json.loads(LIST.alone(b"/v1/models?limit=1000", everything))
    assert answer["data"][0] == {
        "type": "model",
        "id": "glm",
        "display_name": "GLM",
        "created_at": "1970-01-01T00:00:00Z",
    }
    assert (answer["has_more"], answer["first_id"], answer["last_id"]) == (False, "glm", "claude-mine")


@pytest.mark.parametrize(
    ("query", "names", "more"),
    [
        (b"", NAMES, False),
        (b"?limit=2", NAMES[:2], True),
        (b"?limit=2&after_id=Kimi", NAMES[2:], False),
        (b"?limit=1&after_id=glm", NAMES[1:2], True),
        (b"?after_id=claude-mine", (), False),
        (b"?limit=0", NAMES[:1], True),
        (b"?limit=99999999999999999999&beta=true", NAMES, False),
        (b"?limit=%C2%B2", NAMES, False),
    ],
)
def test_it_is_given_in_pages(query: bytes, names: tuple[str, ...], *, more: bool) -> None:
    answer = LIST.alone(b"/v1/models" + query, everything)
    assert (ids(answer), json.loads(answer)["has_more"]) == (list(names), more)


def test_beside_the_upstreams_ours_come_first_and_in_place_of_theirs() -> None:
    answer = LIST.merged(b"/v1/models?limit=1000", json.dumps(UPSTREAMS).encode(), everything)
    assert answer is not None
    assert ids(answer) == [*NAMES, "claude-a"]
    document = json.loads(answer)
    assert document["data"][3] == {"type": "model", "id": "claude-a", "display_name": "claude-a", "x": 1}
    assert (document["has_more"], document["first_id"], document["last_id"]) == (True, "glm", "claude-a")


def test_later_pages_are_the_upstreams_own() -> None:
    raw = json.dumps(UPSTREAMS).encode()
    assert LIST.merged(b"/v1/models?after_id=claude-a", raw, everything) == raw


def test_a_key_sees_what_it_may_use() -> None:
    def kimi(name: str) -> bool:
        return name == "Kimi"

    assert ids(LIST.alone(b"/v1/models", kimi)) == ["Kimi"]
    assert ids(LIST.merged(b"/v1/models", json.dumps(UPSTREAMS).encode(), kimi)) == ["Kimi"]
    assert LIST.one(b"/v1/models/glm", kimi) is None


def test_where_a_page_has_nothing_to_show_the_upstreams_own_word_leads_on() -> None:
    raw = json.dumps(UPSTREAMS).encode()
    for target in (b"/v1/models", b"/v1/models?after_id=x"):
        answer = json.loads(LIST.merged(target, raw, lambda name: name == "other") or b"")
        assert (answer["data"], answer["first_id"], answer["last_id"], answer["has_more"]) == ([], None, "glm", True)
    over = json.dumps({**UPSTREAMS, "has_more": False}).encode()
    answer = json.loads(LIST.merged(b"/v1/models", over, lambda name: name == "other") or b"")
    assert (answer["data"], answer["last_id"]) == ([], None)


def test_one_is_found_by_its_name_whatever_the_case() -> None:
    found = LIST.one(b"/v1/models/kimi", everything)
    assert found is not None
    assert json.loads(found)["id"] == "Kimi"
    assert LIST.one(b"/v1/models/other", everything) is None


@given(
    st.binary(max_size=40)
    | st.recursive(
        st.none() | st.integers() | st.text(max_size=3),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["data", "id"]), inner),
    ).map(lambda value: json.dumps(value).encode())
)
def test_an_answer_that_is_not_a_list_is_distinguished(raw: Any) -> None:
    found = LIST.merged(b"/v1/models", raw, everything)
    assert found is None or ids(found)[:3] == list(NAMES)
