import pytest

from tokenferry.routing import model_denied
from tokenferry.state import ClientKey, Rights


def key(*models: str) -> ClientKey:
    return ClientKey("key_1", "guest", "client", created_at=0, fingerprint="0" * 8, rights=Rights(models=models))


def test_a_key_without_rights_may_ask_for_anything() -> None:
    assert model_denied(key(), ("a", None)) is None
    assert model_denied(key("a*"), ("a", "ab")) is None


@pytest.mark.parametrize("names", [("b",), ("a", "b"), (None,), ("a", None)])
def test_one_name_that_is_not_allowed_is_enough(names: tuple[str | None, ...]) -> None:
    denied = model_denied(key("a", "a-*"), names)
    assert denied is not None
    assert (denied.status, denied.kind, denied.cause) == (400, "invalid_request_error", "model_denied")
    assert denied.message.startswith("client key guest may not ")
    assert denied.message.endswith("; it may use a, a-*")


def test_a_client_s_word_is_repeated_only_if_it_is_harmless() -> None:
    denied = model_denied(key("a"), ("<img onerror=x>",))
    assert denied is not None
    assert "<" not in denied.message
