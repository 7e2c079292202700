import json

import pytest

from tokenferry.gateway._models import OTHER, Families, family, requested_model


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


def test_large_bodies_are_not_searched_for_ever() -> None:
    filler = b'"' + b"x" * (1 << 20) + b'",'
    twice = b'{"a": {"model": "y"}, "b": [' + filler + b'1], "model": "x"}'
    assert requested_model([twice]) is None
    assert requested_model([b'{"b": [' + filler + b'1], "model": "x"}']) == "x"
    assert requested_model([b'{"b": [' + filler * 4 + b'1], "model": "x"}']) is None


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("claude-opus-4-5-20251101", "claude-opus"),
        ("claude-3-5-sonnet-20241022", "claude-sonnet"),
        ("claude-3-5-haiku-latest", "claude-haiku"),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet"),
        ("Claude-Opus-9[1m]", "claude-opus"),
        ("gpt-5-mini", "gpt-mini"),
        ("deepseek-chat", "deepseek-chat"),
        ("1234", OTHER),
        ("a" * 200, "a" * 48),
    ],
)
def test_releases_of_a_model_are_one_family(model: str, expected: str) -> None:
    assert family(model) == expected


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
