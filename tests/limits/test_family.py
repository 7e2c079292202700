import pytest

from tokenferry.limits import OTHER, model_family


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
    assert model_family(model) == expected
