"""How upstreams differ from the vendor whose format they speak."""

from typing import Final, Literal

from msgspec import Struct

_DEFAULT_LIMIT: Final = 32_000


class Quirks(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How an upstream and its model differ from the defaults of its format."""

    max_output_tokens: int | None = None
    """The model's limit; a request for more is reduced to it."""
    thinking: Literal["never", "budget", "adaptive", "level"] = "never"
    """How Anthropic's and Google's formats ask for thinking. Gemini takes a level since version 3, a budget before."""
    budgets: tuple[int, int] = (0, 24_576)
    """A Gemini model's least and largest thinking budget in tokens. If the least is not 0, the model always thinks."""
    vertex: bool = False
    """Whether a Gemini model is at Vertex AI."""
    max_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """The field that limits the output."""
    system_role: Literal["system", "developer"] = "system"
    empty_content: bool = False
    """Whether a message with tool calls must have text content, even if empty."""
    stream_usage: bool = True
    """Whether the upstream accepts `stream_options`."""
    top_k: bool = False
    """Whether the upstream accepts `top_k`."""
    temperature: bool = True
    """Whether `temperature`, `top_p` and `top_k` are accepted. Reasoning models, and Claude since 4.7, refuse them."""
    efforts: tuple[str, ...] = ()
    """The values of `reasoning_effort` or `thinkingLevel`, the lowest first; empty for a model without."""
    required: Literal["required", "any"] = "required"
    """The tool choice that demands a call."""
    tool_ids: Literal["short", "nine"] = "short"
    """The form of call ids: at most 40 characters, or exactly nine letters and digits, as Mistral demands."""
    name_length: int = 64
    """The longest name of a tool, in characters."""
    images: bool = True
    documents: bool = False
    """Whether the model accepts PDF documents."""
    returns_reasoning: bool = False
    """Whether the model wants its earlier reasoning back, as `reasoning_content`."""
    think_tag: bool = False
    """Whether the content may begin with reasoning between `<think>` tags."""
    drop: tuple[str, ...] = ()
    """Prefixes of the types of server tools that are left out instead of making a request unfit."""

    def output_limit(self, asked: int | None) -> int:
        """Give the output tokens to ask for: at most the model's limit, which is also the default, or else 32,000."""
        most = self.max_output_tokens
        if asked is None:
            return most or _DEFAULT_LIMIT
        return asked if most is None else min(asked, most)
