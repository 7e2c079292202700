import json

import pytest

from tokenferry.gateway._answers import Refusal
from tokenferry.gateway._models import Families, requested_model
from tokenferry.limits import OTHER


@pytest.mark.parametrize(
    "body",
    [
        {"model": "claude-x", "messages": []},
        {"messages": [{"role": "user", "content": 'say "model": "claude-y"'}], "model": "claude-x"},
        {"tools": [{"input_schema": {"properties": {"model": {"type": "string"}}}}], "model": "claude-x"},
        {"messages": [{"content": [{"input": {"model": "claude-y"}}]}], "model": "claude-x"},
        {"model": "claude-x", "messages": [{"content": [{"input": {"model": "claude-y"}}]}]},
    ],
)
def test_the_model_is_that_of_the_request_itself(body: object) -> None:
    text = json.dumps(body).encode()
    assert requested_model([text]) == requested_model([text[:15], text[15:40], text[40:]]) == "claude-x"


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"model": 5}', b'[{"model": "a"}, {"model": "b"}]', b'"model":"a""model":"b"']
)
def test_other_bodies_name_none(body: bytes) -> None:
    assert requested_model([body]) is None


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"a","model":"b"}',
        b'{"model":"a","model":"a"}',
        b'{"model" :\n"a","messages":[],"model": null, "mode\\u006C":"b"}',
        b'{"model":"a","\\u006d\\u006F\\u0064\\u0065\\u006c":"b"}',
        b'{"m\\u006fdel":"a","model":5}',
        b'{"model":"a","model":"b\\u0020"}',
        b'{"model":"","model":"b"}',
    ],
)
def test_a_body_that_names_two_models_is_refused(body: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        requested_model([body[:9], body[9:]])
    assert (caught.value.status, caught.value.kind, caught.value.cause) == (400, "invalid_request_error", "two_models")


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (b'{"\\u006dodel":"claude-x"}', "claude-x"),
        (b'{"model":"claude-\\u0078"}', "claude-x"),
        (b'{"model":"claude-x","system":"\\u006d\\u006fdel"}', "claude-x"),
        (b'{"model":"claude-x","metadata":{"model":"a","model":"b"}}', "claude-x"),
    ],
)
def test_escapes_are_decoded(body: bytes, model: str) -> None:
    assert requested_model([body]) == model


def test_large_bodies_are_not_searched_for_ever() -> None:
    filler = b'"' + b"x" * (1 << 20) + b'",'
    twice = b'{"a": {"model": "y"}, "b": [' + filler + b'1], "model": "x"}'
    assert requested_model([twice]) == "x"
    assert requested_model([b'{"b": [' + filler * 4 + b'1], "model": "x"}']) is None


def test_no_client_makes_families_by_asking_for_them() -> None:
    families = Families()
    assert {families.of(f"claude-{'x' * n}", is_served=False) for n in range(1, 1000)} == {OTHER}
    assert families.of("claude-sonnet-4-5", is_served=True) == "claude-sonnet"
    assert families.of("claude-sonnet-9", is_served=False) == "claude-sonnet"
    assert families.of(None, is_served=True) == ""


def test_there_are_only_so_many_families() -> None:
    families = Families()
    names = {families.of(f"model-{'x' * n}", is_served=True) for n in range(1, 1000)}
    assert len(names) == 33
    assert OTHER in names


def test_nor_are_endless_names_remembered() -> None:
    families = Families()
    for number in range(5000):
        families.of(f"claude-sonnet-{number}", is_served=True)
    assert len(families._names) <= 1024
