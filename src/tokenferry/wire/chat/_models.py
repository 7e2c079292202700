"""Requests and answers of the Chat Completions API."""

from typing import Any, Literal, TypeAlias

from msgspec import UNSET, Struct, UnsetType

from tokenferry.wire._json import RequestPart, Unread


class TextPart(RequestPart, tag_field="type", tag="text", kw_only=True):
    text: str
    prompt_cache_breakpoint: Unread = UNSET


class ImageUrl(RequestPart):
    url: str
    detail: Unread = UNSET


class ImagePart(RequestPart, tag_field="type", tag="image_url", kw_only=True):
    image_url: ImageUrl
    prompt_cache_breakpoint: Unread = UNSET


class FileData(RequestPart):
    filename: str | None = None
    file_data: str | None = None
    file_id: str | None = None


class FilePart(RequestPart, tag_field="type", tag="file", kw_only=True):
    file: FileData
    prompt_cache_breakpoint: Unread = UNSET


class RefusalPart(RequestPart, tag_field="type", tag="refusal"):
    refusal: str


UserPart: TypeAlias = TextPart | ImagePart | FilePart
Texts: TypeAlias = str | list[TextPart]


class FunctionCall(RequestPart):
    name: str
    arguments: str


class ToolCall(RequestPart, tag_field="type", tag="function"):
    id: str
    function: FunctionCall


class _Message(RequestPart, tag_field="role"):
    name: Unread = UNSET


class SystemMessage(_Message, tag="system", kw_only=True):
    content: Texts


class DeveloperMessage(_Message, tag="developer", kw_only=True):
    content: Texts


class UserMessage(_Message, tag="user", kw_only=True):
    content: str | list[UserPart]


class AssistantMessage(_Message, tag="assistant", kw_only=True):
    content: str | list[TextPart | RefusalPart] | UnsetType | None = UNSET
    tool_calls: list[ToolCall] | None = None
    reasoning_content: str | None = None
    """For vendors that want their model's reasoning back."""
    refusal: str | None = None
    function_call: Unread = UNSET
    audio: Unread = UNSET


class ToolMessage(_Message, tag="tool", kw_only=True):
    tool_call_id: str
    content: Texts


ChatMessage: TypeAlias = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage


class FunctionSpec(RequestPart):
    name: str
    description: str | None = None
    parameters: Unread = UNSET
    strict: bool | None = None


class ChatTool(RequestPart, tag_field="type", tag="function"):
    function: FunctionSpec


class NamedFunction(RequestPart):
    name: str


class ChatToolChoice(RequestPart, tag_field="type", tag="function"):
    function: NamedFunction


class JsonSchema(RequestPart):
    name: str
    schema: Unread = UNSET
    strict: bool | None = None
    description: str | None = None


class ResponseFormat(RequestPart):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StreamOptions(RequestPart):
    include_usage: bool | None = None
    include_obfuscation: Unread = UNSET


class ChatRequest(RequestPart):
    model: str
    messages: list[ChatMessage]
    tools: list[ChatTool] | None = None
    tool_choice: Literal["auto", "required", "any", "none"] | ChatToolChoice | None = None
    parallel_tool_calls: bool | None = None
    max_completion_tokens: int | None = None
    max_tokens: int | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    """Not a field of OpenAI's; some vendors accept it."""
    reasoning_effort: str | None = None
    response_format: ResponseFormat | None = None
    n: int | None = None
    audio: Unread = UNSET
    modalities: list[str] | None = None
    logprobs: bool | None = None
    top_logprobs: Unread = UNSET
    functions: Unread = UNSET
    function_call: Unread = UNSET
    web_search_options: Unread = UNSET
    system: Unread = UNSET
    instructions: Unread = UNSET
    input: Unread = UNSET
    moderation: Unread = UNSET
    frequency_penalty: Unread = UNSET
    presence_penalty: Unread = UNSET
    logit_bias: Unread = UNSET
    seed: Unread = UNSET
    store: Unread = UNSET
    metadata: Unread = UNSET
    user: Unread = UNSET
    safety_identifier: Unread = UNSET
    prompt_cache_key: Unread = UNSET
    prompt_cache_options: Unread = UNSET
    prompt_cache_retention: Unread = UNSET
    prediction: Unread = UNSET
    service_tier: Unread = UNSET
    verbosity: Unread = UNSET


# Answers may gain fields at any time, so unknown ones are skipped.


class CalledFunction(Struct, kw_only=True):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None
    """A JSON object as text; some servers give the object itself."""


class CalledTool(Struct, kw_only=True):
    index: int | None = None
    id: str | None = None
    function: CalledFunction | None = None


class ChatDelta(Struct, kw_only=True):
    """The message of a whole answer, or an event's addition to one."""

    content: str | list[dict[str, Any]] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[dict[str, Any]] | None = None
    tool_calls: list[CalledTool] | None = None
    function_call: CalledFunction | None = None
    refusal: str | None = None


class ChatChoice(Struct, kw_only=True):
    index: int | None = None
    delta: ChatDelta | None = None
    message: ChatDelta | None = None
    finish_reason: str | None = None


class ChatAnswer(Struct, kw_only=True):
    """A whole answer, or one event of a stream."""

    id: str | None = None
    model: str | None = None
    choices: list[ChatChoice] | None = None
    usage: Any = None
    error: Any = None
    base_resp: dict[str, Any] | None = None
    """MiniMax's field for errors with status 200."""
