import pytest

from tokenferry.gateway._answers import Refusal
from tokenferry.gateway._rights import check_models
from tokenferry.state import ClientKey, Rights


def key(*models: str) -> ClientKey:
    return ClientKey("key_1", "guest", admin=False, created_at=0, fingerprint="0" * 8, rights=Rights(models=models))


def test_a_key_without_rights_may_ask_for_anything() -> None:
    check_models(key(), ("a", None))
    check_models(key("a*"), ("a", "ab"))


@pytest.mark.parametrize("names", [("b",), ("a", "b"), (None,), ("a", None)])
def test_one_name_that_is_not_allowed_is_enough(names: tuple[str | None, ...]) -> None:
    with pytest.raises(Refusal, match="client key guest may not") as caught:
        check_models(key("a", "a-*"), names)
    refusal = caught.value
    assert (refusal.status, refusal.kind, refusal.cause) == (400, "invalid_request_error", "model_denied")
    assert refusal.message.endswith("; it may use a, a-*")
    assert not refusal.should_retry


def test_a_client_s_word_is_repeated_only_if_it_is_harmless() -> None:
    with pytest.raises(Refusal) as caught:
        check_models(key("a"), ("<img onerror=x>",))
    assert "<" not in caught.value.message
