"""A request's tokens by its length."""

import base64
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenferry.wire import BYTES_PER_TOKEN, BodySize, measure


def image(size: int, kind: str = "anthropic", data: bytes = b"\x89PNG") -> dict[str, Any]:
    text = base64.b64encode(data + bytes(range(256)) * (size // 256)).decode()
    if kind == "openai":
        return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{text}"}}
    return {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": text}}


def body(*blocks: Any) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": list(blocks)}]}).encode()


@pytest.mark.parametrize("kind", ["anthropic", "openai"])
def test_an_image_counts_as_an_image_whatever_its_bytes_are(kind: str) -> None:
    """CLIProxyAPI#679: length divided by four was far off either way."""
    small, large = measure(body(image(4096, kind))), measure(body(image(1024 * 1024, kind)))
    assert small.inline_tokens == large.inline_tokens == 1600
    assert 0 < large.text == small.text < 200
    assert measure(body(image(4096, kind), image(4096, kind))).inline_tokens == 3200


def test_a_document_counts_by_its_bytes() -> None:
    found = measure(body(image(300_000, data=b"%PDF-1.7")))
    assert 10_000 < found.inline_tokens < 20_000


def test_text_is_rounded_up_and_never_below_what_code_has() -> None:
    assert BodySize(0).tokens() == 0
    assert BodySize(1).tokens() == 1
    assert BodySize(3300).tokens() == 1000
    assert BodySize(3300, 5).tokens(bytes_per_token=1) == 3305
    assert BYTES_PER_TOKEN < 3.6  # of code, in JSON


@given(st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_whatever_is_no_inline_file_counts_as_text(value: Any) -> None:
    text = json.dumps(value).encode()
    assert measure(text) == BodySize(len(text))


@pytest.mark.parametrize(
    "text", [b'"' * 4_000_000, b'"' + b"A" * 4_000_000, (b'"' + b"A" * 1000) * 4000, b"\\/" * 1_300_000]
)
def test_no_body_takes_long(text: bytes) -> None:
    before = time.process_time()
    measure(text)
    assert time.process_time() - before < 1.0
