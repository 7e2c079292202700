"""The fields that a request of Responses may have. The sandbox is as strict as the vendor."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from tokenferry.sandbox._chat_request import CallId, Limit, Name, NamedFunction, Strict, fault_of_schema
from tokenferry.sandbox._http import ApiError

Status = Literal["in_progress", "completed", "incomplete"]


class InputText(Strict, tag="input_text"):
    text: str


class InputImage(Strict, tag="input_image"):
    image_url: Annotated[str, Meta(pattern=r"^(https://|data:image/)")]
    detail: Literal["auto", "low", "high"] = "auto"


class InputFile(Strict, tag="input_file"):
    filename: str
    file_data: Annotated[str, Meta(pattern=r"^data:")]


class OutputText(Strict, tag="output_text"):
    text: str
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None


class Refusal(Strict, tag="refusal"):
    refusal: str


class SummaryText(Strict, tag="summary_text"):
    text: str


class Message(Strict, tag="message"):
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[InputText | InputImage | InputFile | OutputText | Refusal]
    id: str | None = None
    status: Status | None = None
    phase: str | None = None


class FunctionCall(Strict, tag="function_call"):
    call_id: CallId
    name: Name
    arguments: str
    id: str | None = None
    status: Status | None = None


class FunctionCallOutput(Strict, tag="function_call_output"):
    call_id: CallId
    output: str | list[InputText | InputImage | InputFile]
    id: str | None = None
    status: Status | None = None


class ReasoningItem(Strict, tag="reasoning"):
    summary: list[SummaryText]
    id: str | None = None
    encrypted_content: str | None = None
    status: Status | None = None


class Tool(Strict):
    type: Literal["function"]
    name: Name
    parameters: msgspec.Raw
    strict: bool | None = None
    description: str | None = None


class NamedTool(NamedFunction):
    type: Literal["function"]


class Reasoning(Strict):
    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None


class Format(Strict):
    type: Literal["text", "json_object", "json_schema"]
    name: Name | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None


class TextSettings(Strict):
    format: Format | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class ResponsesRequest(Strict):
    model: Annotated[str, Meta(min_length=1)]
    input: str | Annotated[list[Message | FunctionCall | FunctionCallOutput | ReasoningItem], Meta(min_length=1)]
    instructions: str | None = None
    max_output_tokens: Annotated[int, Meta(ge=16)] | None = None
    max_tool_calls: Limit | None = None
    stream: bool | None = None
    tools: Annotated[list[Tool], Meta(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    reasoning: Reasoning | None = None
    text: TextSettings | None = None
    include: list[Literal["reasoning.encrypted_content"]] | None = None
    store: bool | None = None
    truncation: Literal["auto", "disabled"] | None = None
    metadata: dict[str, str] | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    user: str | None = None


_decoder = msgspec.json.Decoder(ResponsesRequest)


def check(body: bytes, mark: str) -> ResponsesRequest:
    """Check the request, and return it. Raises `ApiError` with a text like the vendor's.

    `mark` is the caller's encrypted reasoning: no other can be read.
    """
    try:
        request = _decoder.decode(_with_types(body))
        schemas = [
            fault_of_schema(tool.name, tool.parameters, is_strict=bool(tool.strict)) for tool in request.tools or ()
        ]
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ApiError(400, f"Invalid request: {str(error)[:500]}") from None
    if not request.model.startswith(("gpt", "o")):
        raise ApiError(404, f"The model `{request.model}` does not exist or you do not have access to it.")
    items = [] if isinstance(request.input, str) else request.input
    for fault in (*schemas, _fault_of_calls(items), _fault_of_reasoning(items, mark), _fault_of_choice(request)):
        if fault:
            raise ApiError(400, fault)
    return request


def _with_types(body: bytes) -> bytes:
    """Make an item without a type a message."""
    document = msgspec.json.decode(body)
    items = document.get("input") if isinstance(document, dict) else None
    if not isinstance(items, list):
        return body
    document["input"] = [{"type": "message", **item} if isinstance(item, dict) else item for item in items]
    return msgspec.json.encode(document)


def _fault_of_calls(items: list[Message | FunctionCall | FunctionCallOutput | ReasoningItem]) -> str:
    awaited: dict[str, None] = {}
    for item in items:
        if isinstance(item, FunctionCall):
            awaited[item.call_id] = None
        elif isinstance(item, FunctionCallOutput):
            if item.call_id not in awaited:
                return f"No tool call found for function call output with call_id {item.call_id}."
            del awaited[item.call_id]
    return f"No tool output found for function call {next(iter(awaited))}." if awaited else ""


def _fault_of_reasoning(items: list[Message | FunctionCall | FunctionCallOutput | ReasoningItem], mark: str) -> str:
    for place, item in enumerate(items):
        if not isinstance(item, ReasoningItem):
            continue
        if item.encrypted_content != mark:
            return (
                f"The encrypted content for item {item.id} could not be verified. Reason: Encrypted content "
                "organization_id did not match the target organization."
            )
        if not isinstance((*items, None)[place + 1], Message | FunctionCall):
            return f"Item '{item.id}' of type 'reasoning' was provided without its required following item."
    return ""


def _fault_of_choice(request: ResponsesRequest) -> str:
    names = {tool.name for tool in request.tools or ()}
    choice = request.tool_choice
    if isinstance(choice, NamedTool) and choice.name not in names:
        return f"Tool choice 'function' not found in 'tools' parameter: {choice.name}"
    return "" if names or choice != "required" else "Tool choice 'required' must be specified with 'tools' parameter."
