from typing import Literal

from msgspec import Struct


class Quirks(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How an upstream differs from the vendor whose format it speaks, and what its models can do.

    The defaults suit most. `thinking` is of upstreams that speak Anthropic's or Google's format.
    """

    max_output_tokens: int | None = None
    """The most that the model takes; a request for more asks for that."""
    thinking: Literal["never", "budget", "adaptive", "level"] = "never"
    """The form of thinking that the model takes; Gemini's are a budget, and since its third generation a level."""
    budgets: tuple[int, int] = (0, 24_576)
    """The least and the most tokens that a Gemini model thinks with. One whose least isn't 0 always thinks."""
    vertex: bool = False
    """Whether a Gemini model is asked through Vertex AI."""
    max_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """The field that limits the output."""
    system_role: Literal["system", "developer"] = "system"
    empty_content: bool = False
    """Whether the content beside tool calls must be a text, if an empty one."""
    stream_usage: bool = True
    """Whether `stream_options` is taken."""
    top_k: bool = False
    """Whether `top_k` is taken."""
    temperature: bool = True
    """Whether `temperature`, `top_p` and `top_k` are taken; reasoning models refuse them, as Claude does since 4.7."""
    efforts: tuple[str, ...] = ()
    """What `reasoning_effort` or `thinkingLevel` takes, the least first; nothing for a model that takes none."""
    required: Literal["required", "any"] = "required"
    """The word for a tool choice that demands a call."""
    tool_ids: Literal["short", "nine"] = "short"
    """At most 40 characters; or exactly nine letters and digits, as Mistral wants."""
    name_length: int = 64
    """The longest tool's name."""
    images: bool = True
    documents: bool = False
    """Whether PDF documents are taken."""
    returns_reasoning: bool = False
    """Whether the model wants its reasoning of earlier turns back, as `reasoning_content`."""
    think_tag: bool = False
    """Whether the content may begin with reasoning between `<think>` tags."""
    drop: tuple[str, ...] = ()
    """Server tools, by the beginning of their types, that may be left out."""
