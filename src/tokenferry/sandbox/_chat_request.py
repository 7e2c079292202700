"""The fields that a request of Chat Completions may have. The sandbox is as strict as the vendor."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from tokenferry.sandbox._http import ApiError

_REASONING = ("gpt-5", "o1", "o3", "o4")
"""Models that take an effort, and neither `max_tokens` nor a temperature."""

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
CallId = Annotated[str, Meta(min_length=1, max_length=40)]
Limit = Annotated[int, Meta(ge=1)]


class Strict(Struct, forbid_unknown_fields=True):
    """An object without unknown fields."""


class TextPart(Strict, tag="text"):
    text: str


class ImageUrl(Strict):
    url: Annotated[str, Meta(pattern=r"^(https://|data:image/)")]
    detail: Literal["auto", "low", "high"] = "auto"


class ImagePart(Strict, tag="image_url"):
    image_url: ImageUrl


class FileData(Strict):
    filename: str
    file_data: Annotated[str, Meta(pattern=r"^data:")]


class FilePart(Strict, tag="file"):
    file: FileData


Text = str | Annotated[list[TextPart], Meta(min_length=1)]


class CalledFunction(Strict):
    name: Name
    arguments: str


class Call(Strict):
    id: CallId
    type: Literal["function"]
    function: CalledFunction


class SystemMessage(Strict, tag_field="role", tag="system"):
    content: Text
    name: str | None = None


class DeveloperMessage(Strict, tag_field="role", tag="developer"):
    content: Text
    name: str | None = None


class UserMessage(Strict, tag_field="role", tag="user"):
    content: str | Annotated[list[TextPart | ImagePart | FilePart], Meta(min_length=1)]
    name: str | None = None


class AssistantMessage(Strict, tag_field="role", tag="assistant"):
    content: Text | None = None
    tool_calls: Annotated[list[Call], Meta(min_length=1)] | None = None
    name: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None


class ToolMessage(Strict, tag_field="role", tag="tool"):
    content: Text
    tool_call_id: CallId


class Schema(Struct):
    type: Literal["object"]


class Function(Strict):
    name: Name
    description: str = ""
    parameters: msgspec.Raw = msgspec.Raw(b'{"type":"object","additionalProperties":false}')
    strict: bool | None = None


class Tool(Strict):
    type: Literal["function"]
    function: Function


class NamedFunction(Strict):
    name: Name


class NamedTool(Strict):
    type: Literal["function"]
    function: NamedFunction


class StreamOptions(Strict):
    include_usage: bool = False


class JsonSchema(Strict):
    name: Name
    schema: dict[str, Any]
    description: str = ""
    strict: bool | None = None


class ResponseFormat(Strict):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class ChatRequest(Strict):
    model: Annotated[str, Meta(min_length=1)]
    messages: Annotated[
        list[SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage], Meta(min_length=1)
    ]
    max_tokens: Limit | None = None
    max_completion_tokens: Limit | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    tools: Annotated[list[Tool], Meta(min_length=1, max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    stop: str | Annotated[list[str], Meta(min_length=1, max_length=4)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    response_format: ResponseFormat | None = None
    n: Literal[1] | None = None
    user: str | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None
    seed: int | None = None
    store: bool | None = None
    metadata: dict[str, str] | None = None
    service_tier: str | None = None


_decoder = msgspec.json.Decoder(ChatRequest)


def check(body: bytes) -> dict[str, Any]:
    """Check the request, and return it as plain values. Raises `ApiError` with a text like the vendor's."""
    try:
        request = _decoder.decode(body)
        functions = [tool.function for tool in request.tools or ()]
        schemas = [fault_of_schema(one.name, one.parameters, is_strict=bool(one.strict)) for one in functions]
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ApiError(400, f"Invalid request: {str(error)[:500]}") from None
    if not request.model.startswith(("gpt", "o")):
        raise ApiError(404, f"The model `{request.model}` does not exist or you do not have access to it.")
    for fault in (*_faults_of_calls(request), *schemas, *_faults_of_tools(request), *_faults_of_limits(request)):
        if fault:
            raise ApiError(400, fault)
    document: dict[str, Any] = msgspec.json.decode(body)
    return document


def fault_of_schema(name: str, text: msgspec.Raw, *, is_strict: bool) -> str:
    """What is wrong with a tool's schema, or an empty text. Raises `msgspec.MsgspecError` if it isn't a schema."""
    schema = msgspec.json.decode(text)
    msgspec.convert(schema, Schema)
    if is_strict and not _is_closed(schema):
        return f"Invalid schema for function '{name}': 'additionalProperties' must be false and all 'required'"
    return ""


def _faults_of_calls(request: ChatRequest) -> list[str]:
    """Check that each call is followed by its result, and each result follows its call."""
    awaited: list[str] = []
    for message in request.messages:
        if isinstance(message, ToolMessage):
            if message.tool_call_id not in awaited:
                return ["messages with role 'tool' must be a response to a preceding message with 'tool_calls'"]
            awaited.remove(message.tool_call_id)
        elif awaited:
            break
        elif isinstance(message, AssistantMessage):
            if message.content is None and not message.tool_calls:
                return ["Invalid value for 'content': expected a string, got null."]
            awaited = [call.id for call in message.tool_calls or ()]
    missing = ", ".join(awaited)
    fault = (
        f"'tool_calls' must be followed by tool messages responding to each 'tool_call_id'; there is none for {missing}"
    )
    return [fault] if awaited else []


def _faults_of_tools(request: ChatRequest) -> list[str]:
    choice = request.tool_choice
    names = [tool.function.name for tool in request.tools or ()]
    if not names and (choice is not None or request.parallel_tool_calls is not None):
        return ["'tool_choice' and 'parallel_tool_calls' are only allowed when 'tools' are specified."]
    if isinstance(choice, NamedTool) and choice.function.name not in names:
        return [f"Tool choice '{choice.function.name}' not found in 'tools'."]
    return []


def _faults_of_limits(request: ChatRequest) -> list[str]:
    faults = []
    if request.stream_options is not None and not request.stream:
        faults.append("The 'stream_options' parameter is only allowed when 'stream' is enabled.")
    if request.max_tokens is not None and request.max_completion_tokens is not None:
        faults.append("Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.")
    if request.model.startswith(_REASONING):
        if request.max_tokens is not None:
            faults.append("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        if request.temperature not in {None, 1} or request.top_p not in {None, 1}:
            faults.append("Unsupported value: this model takes the default 'temperature' and 'top_p' alone.")
    elif request.reasoning_effort is not None:
        faults.append("Unrecognized request argument supplied: reasoning_effort")
    return faults


def _is_closed(schema: Any) -> bool:
    """Whether every object of a schema lists and requires all of its fields."""
    if isinstance(schema, list):
        return all(map(_is_closed, schema))
    if not isinstance(schema, dict):
        return True
    if schema.get("type") == "object":
        fields = {*schema.get("properties", {})}
        if schema.get("additionalProperties") is not False or fields != {*schema.get("required", [])}:
            return False
    return all(map(_is_closed, schema.values()))
