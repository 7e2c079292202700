"""Requests and answers of the Responses API."""

from typing import Any, Literal, TypeAlias

from msgspec import UNSET, Struct, field

from tokenferry.wire._json import RequestPart, Unread


class InputText(RequestPart, tag_field="type", tag="input_text", kw_only=True):
    text: str
    prompt_cache_breakpoint: Unread = UNSET


class InputImage(RequestPart, tag_field="type", tag="input_image", kw_only=True):
    image_url: str | None = None
    file_id: str | None = None
    detail: Unread = UNSET
    prompt_cache_breakpoint: Unread = UNSET


class InputFile(RequestPart, tag_field="type", tag="input_file", kw_only=True):
    filename: str | None = None
    file_data: str | None = None
    file_url: str | None = None
    file_id: str | None = None
    detail: Unread = UNSET
    prompt_cache_breakpoint: Unread = UNSET


class OutputText(RequestPart, tag_field="type", tag="output_text", kw_only=True):
    text: str
    annotations: Unread = UNSET
    logprobs: Unread = UNSET


class OutputRefusal(RequestPart, tag_field="type", tag="refusal", kw_only=True):
    refusal: str


ItemPart: TypeAlias = InputText | InputImage | InputFile | OutputText | OutputRefusal


class _Item(RequestPart, tag_field="type", kw_only=True):
    id: str | None = None
    status: Unread = UNSET


class MessageItem(_Item, tag="message", kw_only=True):
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[ItemPart]
    phase: Unread = UNSET


class SummaryText(RequestPart, tag_field="type", tag="summary_text", kw_only=True):
    text: str


class ReasoningItem(_Item, tag="reasoning", kw_only=True):
    summary: list[SummaryText]
    content: Unread = UNSET
    encrypted_content: str | None = None


class _CallItem(_Item, kw_only=True):
    call_id: str
    name: str
    namespace: str | None = None
    caller: Unread = UNSET
    async_: Unread = field(default=UNSET, name="async")


class FunctionCallItem(_CallItem, tag="function_call", kw_only=True):
    arguments: str


class CustomToolCallItem(_CallItem, tag="custom_tool_call", kw_only=True):
    input: str


class _OutputItem(_Item, kw_only=True):
    call_id: str
    output: str | list[ItemPart]
    name: Unread = UNSET
    namespace: Unread = UNSET
    caller: Unread = UNSET


class FunctionCallOutputItem(_OutputItem, tag="function_call_output", kw_only=True):
    pass


class CustomToolCallOutputItem(_OutputItem, tag="custom_tool_call_output", kw_only=True):
    pass


class AdditionalToolsItem(_Item, tag="additional_tools", kw_only=True):
    tools: "list[ResponsesTool]"
    role: Unread = UNSET


class ItemReference(RequestPart, tag_field="type", tag="item_reference", kw_only=True):
    id: str


InputItem: TypeAlias = (
    MessageItem
    | ReasoningItem
    | FunctionCallItem
    | FunctionCallOutputItem
    | CustomToolCallItem
    | CustomToolCallOutputItem
    | AdditionalToolsItem
    | ItemReference
)


class CustomToolFormat(RequestPart):
    type: Literal["text", "grammar"]
    syntax: str | None = None
    definition: str | None = None


class ResponsesTool(RequestPart):
    """A tool of the client, a namespace of tools, or one that the server runs, by its type."""

    type: str
    name: str | None = None
    description: str | None = None
    parameters: Unread = UNSET
    strict: bool | None = None
    format: CustomToolFormat | None = None
    tools: "list[ResponsesTool] | None" = None
    async_: Unread = field(default=UNSET, name="async")
    allowed_callers: Unread = UNSET
    defer_loading: Unread = UNSET
    output_schema: Unread = UNSET


class AllowedTool(RequestPart):
    type: str
    name: str | None = None


class ResponsesToolChoice(RequestPart):
    type: str
    name: str | None = None
    mode: Literal["auto", "required"] | None = None
    tools: list[AllowedTool] | None = None


class ReasoningConfig(RequestPart):
    effort: str | None = None
    summary: str | None = None
    generate_summary: Unread = UNSET
    context: Unread = UNSET
    mode: Unread = UNSET


class TextFormat(RequestPart):
    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema: Unread = UNSET
    strict: bool | None = None
    description: str | None = None


class TextConfig(RequestPart):
    format: TextFormat | None = None
    verbosity: Unread = UNSET


class ResponsesRequest(RequestPart):
    model: str
    input: str | list[InputItem]
    instructions: str | None = None
    tools: list[ResponsesTool] | None = None
    tool_choice: Literal["auto", "required", "none"] | ResponsesToolChoice | None = None
    parallel_tool_calls: bool | None = None
    max_output_tokens: int | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    reasoning: ReasoningConfig | None = None
    text: TextConfig | None = None
    include: list[str] | None = None
    store: Unread = UNSET
    previous_response_id: Unread = UNSET
    conversation: Unread = UNSET
    background: Unread = UNSET
    prompt: Unread = UNSET
    top_logprobs: int | None = None
    stream_options: Unread = UNSET
    truncation: Unread = UNSET
    context_management: Unread = UNSET
    max_tool_calls: Unread = UNSET
    image: Unread = UNSET
    access_programs: Unread = UNSET
    moderation: Unread = UNSET
    metadata: Unread = UNSET
    client_metadata: Unread = UNSET
    """Codex sends it."""
    user: Unread = UNSET
    safety_identifier: Unread = UNSET
    prompt_cache_key: Unread = UNSET
    prompt_cache_options: Unread = UNSET
    prompt_cache_retention: Unread = UNSET
    service_tier: Unread = UNSET


# Answers may gain fields and kinds of items at any time. Unknown fields are skipped. A field that another kind of item
# or event may use with another type is of any type here.


class AnswerItem(Struct, kw_only=True):
    type: str
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: Any = None
    content: Any = None
    summary: Any = None
    encrypted_content: str | None = None


class IncompleteDetails(Struct, kw_only=True):
    reason: str | None = None


class ResponsesAnswer(Struct, kw_only=True):
    """A whole answer, or the part of one that an event holds."""

    id: str | None = None
    model: str | None = None
    status: str | None = None
    output: list[AnswerItem] | None = None
    usage: Any = None
    incomplete_details: IncompleteDetails | None = None
    error: Any = None


class ResponsesEvent(Struct, kw_only=True):
    type: str
    response: ResponsesAnswer | None = None
    item: AnswerItem | None = None
    output_index: int | None = None
    item_id: str | None = None
    summary_index: int | None = None
    delta: Any = None
    text: Any = None
    refusal: Any = None
    arguments: Any = None
