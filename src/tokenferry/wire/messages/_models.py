"""Requests and answers of the Messages API. A field that only passes, like a schema, stays raw bytes."""

from typing import Any, Literal, TypeAlias

from msgspec import UNSET, Raw, Struct

from tokenferry.wire._json import RequestPart, Unread


class _Block(RequestPart, tag_field="type"):
    cache_control: Unread = UNSET


class Base64Source(RequestPart, tag_field="type", tag="base64"):
    media_type: str
    data: str


class UrlSource(RequestPart, tag_field="type", tag="url"):
    url: str


class FileSource(RequestPart, tag_field="type", tag="file"):
    file_id: str


class TextSource(RequestPart, tag_field="type", tag="text"):
    data: str
    media_type: str = "text/plain"


class ContentSource(RequestPart, tag_field="type", tag="content"):
    content: "str | list[TextContent | ImageContent]"


class TextContent(_Block, tag="text", kw_only=True):
    text: str
    citations: Unread = UNSET


class ImageContent(_Block, tag="image", kw_only=True):
    source: Base64Source | UrlSource | FileSource
    transformations: Unread = UNSET


class DocumentContent(_Block, tag="document", kw_only=True):
    source: Base64Source | UrlSource | FileSource | TextSource | ContentSource
    title: str | None = None
    context: str | None = None
    citations: Unread = UNSET


class SearchResultContent(_Block, tag="search_result", kw_only=True):
    source: str
    title: str
    content: list[TextContent]
    citations: Unread = UNSET


class ToolReferenceContent(_Block, tag="tool_reference", kw_only=True):
    tool_name: str


class ThinkingContent(_Block, tag="thinking", kw_only=True):
    thinking: str
    signature: str = ""


class RedactedThinkingContent(_Block, tag="redacted_thinking", kw_only=True):
    data: str


class ToolUseContent(_Block, tag="tool_use", kw_only=True):
    id: str
    name: str
    input: Raw
    caller: Unread = UNSET
    toolset_name: Unread = UNSET


ResultContent: TypeAlias = TextContent | ImageContent | DocumentContent | SearchResultContent | ToolReferenceContent


class ToolResultContent(_Block, tag="tool_result", kw_only=True):
    tool_use_id: str
    content: str | list[ResultContent] | None = None
    is_error: bool | None = None
    toolset_name: Unread = UNSET


Content: TypeAlias = (
    TextContent
    | ImageContent
    | DocumentContent
    | SearchResultContent
    | ToolReferenceContent
    | ThinkingContent
    | RedactedThinkingContent
    | ToolUseContent
    | ToolResultContent
)


class Turn(RequestPart):
    role: Literal["user", "assistant", "system"]
    content: str | list[Content]


class FunctionTool(RequestPart):
    """A tool of the client, or one that the server runs or knows, by its type."""

    name: str
    input_schema: Unread = UNSET
    description: str | None = None
    type: str | None = None
    strict: bool | None = None
    cache_control: Unread = UNSET
    allowed_callers: Unread = UNSET
    defer_loading: Unread = UNSET
    eager_input_streaming: Unread = UNSET
    input_examples: Unread = UNSET


class ToolChoice(RequestPart):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class ThinkingConfig(RequestPart):
    type: str
    budget_tokens: int | None = None
    display: Unread = UNSET
    block_binding: Unread = UNSET


class OutputFormat(RequestPart):
    type: Literal["json_schema"]
    schema: Raw


class OutputConfig(RequestPart):
    effort: str | None = None
    format: OutputFormat | None = None
    task_budget: Unread = UNSET


class MessagesRequest(RequestPart):
    model: str
    messages: list[Turn]
    max_tokens: int
    system: str | list[TextContent] | None = None
    tools: list[FunctionTool] | None = None
    tool_choice: ToolChoice | None = None
    stop_sequences: list[str] | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    thinking: ThinkingConfig | None = None
    output_config: OutputConfig | None = None
    metadata: Unread = UNSET
    mcp_servers: Unread = UNSET
    thread: Unread = UNSET
    container: Unread = UNSET
    context_management: Unread = UNSET
    compaction: Unread = UNSET
    cache_control: Unread = UNSET
    service_tier: Unread = UNSET
    speed: Unread = UNSET
    inference_geo: Unread = UNSET
    diagnostics: Unread = UNSET
    billing_policy: Unread = UNSET
    fallbacks: Unread = UNSET
    fallback_credit_token: Unread = UNSET
    betas: Unread = UNSET
    anthropic_version: Unread = UNSET
    user_profile_id: Unread = UNSET
    workspace_id: Unread = UNSET


# Answers may gain fields at any time, so unknown ones are skipped.


class AnswerBlock(Struct, kw_only=True):
    type: str
    id: str | None = None
    name: str | None = None
    input: Raw = Raw(b"{}")
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None


class MessagesAnswer(Struct, kw_only=True):
    id: str
    content: list[AnswerBlock]
    model: str = ""
    stop_reason: str | None = None
    usage: Any = None


class AnswerDelta(Struct, kw_only=True):
    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    signature: str | None = None
    stop_reason: str | None = None


class AnswerFault(Struct, kw_only=True):
    type: str = ""
    message: str = ""


class AnswerStart(Struct, kw_only=True):
    id: str = ""
    model: str = ""
    usage: Any = None


class AnswerEvent(Struct, kw_only=True):
    """Any event of a stream."""

    type: str
    index: int | None = None
    message: AnswerStart | None = None
    content_block: AnswerBlock | None = None
    delta: AnswerDelta | None = None
    usage: Any = None
    error: AnswerFault | None = None
