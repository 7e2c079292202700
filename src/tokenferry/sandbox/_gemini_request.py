"""The fields and signatures that a request of Gemini may have. The sandbox is as strict as the vendor."""

import re
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from tokenferry.sandbox._http import ApiError

UNCHECKED = "skip_thought_signature_validator"
"""What the vendor accepts instead of a signature."""
_KEYWORDS = frozenset(
    (
        *("$id", "$defs", "$ref", "$anchor", "type", "format", "title", "description", "enum", "items", "prefixItems"),
        *("minItems", "maxItems", "minimum", "maximum", "anyOf", "oneOf", "properties", "additionalProperties"),
        *("required", "propertyOrdering"),
    )
)
_COUNTS = (
    "Please ensure that the number of function response parts is equal to the number of function call parts of the "
    "function call turn."
)
_ORDER = "Please ensure that function response turn comes immediately after a function call turn."
_MISSING = (
    "Function call is missing a thought_signature in functionCall parts. This is required for tools to work correctly, "
    "and missing thought_signature may lead to degraded model performance. Additional data, function call "
    "`default_api:{}` , position {}. Please refer to https://ai.google.dev/gemini-api/docs/thought-signatures for more "
    "details."
)

_OPAQUE = frozenset(("args", "response", "parametersJsonSchema", "responseJsonSchema"))
"""Fields whose content has names of the client's own."""

Signature = Callable[[str], str]
"""Gives the caller's signature of a function's first call, by its name; an empty name is for a text."""
Name = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_.:-]{0,127}$")]


class CamelStrict(Struct, forbid_unknown_fields=True, rename="camel"):
    """An object without unknown fields."""


class Blob(CamelStrict):
    mime_type: Annotated[str, Meta(pattern=r"^[a-z]+/[a-z0-9.+-]+$")]
    data: Annotated[str, Meta(pattern=r"^[A-Za-z0-9+/_=-]*$")]


class FunctionCall(CamelStrict):
    name: Name
    args: dict[str, Any] = {}
    id: str | None = None


class ResponsePart(CamelStrict):
    inline_data: Blob


class FunctionResponse(CamelStrict):
    name: Name
    response: dict[str, Any]
    id: str | None = None
    parts: list[ResponsePart] | None = None


class Part(CamelStrict):
    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    inline_data: Blob | None = None
    function_call: FunctionCall | None = None
    function_response: FunctionResponse | None = None


class Content(CamelStrict):
    parts: Annotated[list[Part], Meta(min_length=1)]
    role: Literal["user", "model"] = "user"

    @property
    def calls(self) -> list[FunctionCall]:
        return [part.function_call for part in self.parts if part.function_call is not None]

    @property
    def responses(self) -> list[FunctionResponse]:
        return [part.function_response for part in self.parts if part.function_response is not None]


class Instruction(CamelStrict):
    parts: Annotated[list[Part], Meta(min_length=1)]
    role: str = ""


class Declaration(CamelStrict):
    name: Name
    description: str = ""
    parameters_json_schema: Any = None


class Tool(CamelStrict):
    function_declarations: Annotated[list[Declaration], Meta(min_length=1, max_length=512)]


class CallingConfig(CamelStrict):
    mode: Literal["AUTO", "ANY", "NONE", "VALIDATED"] = "AUTO"
    allowed_function_names: list[str] | None = None


class ToolConfig(CamelStrict):
    function_calling_config: CallingConfig | None = None


class ThinkingConfig(CamelStrict):
    include_thoughts: bool = False
    thinking_budget: Annotated[int, Meta(ge=-1)] | None = None
    thinking_level: Literal["MINIMAL", "LOW", "MEDIUM", "HIGH"] | None = None


class GenerationConfig(CamelStrict):
    max_output_tokens: Annotated[int, Meta(ge=1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[float, Meta(ge=1)] | None = None
    stop_sequences: Annotated[list[str], Meta(max_length=5)] | None = None
    thinking_config: ThinkingConfig | None = None
    response_mime_type: Literal["text/plain", "application/json"] | None = None
    response_json_schema: Any = None


class GeminiRequest(CamelStrict):
    contents: Annotated[list[Content], Meta(min_length=1)]
    system_instruction: Instruction | None = None
    tools: Annotated[list[Tool], Meta(max_length=1)] | None = None
    tool_config: ToolConfig | None = None
    generation_config: GenerationConfig = msgspec.field(default_factory=GenerationConfig)
    model: str | None = None
    """Only for counting tokens."""

    @property
    def offered(self) -> dict[str, Any]:
        """The schemas of the offered functions, by name."""
        return {one.name: one.parameters_json_schema for tool in self.tools or () for one in tool.function_declarations}

    @property
    def calling(self) -> CallingConfig:
        return (self.tool_config and self.tool_config.function_calling_config) or CallingConfig()


class CountRequest(CamelStrict):
    generate_content_request: GeminiRequest | None = None
    contents: list[Content] | None = None
    system_instruction: Instruction | None = None
    tools: list[Tool] | None = None


def _spelled(value: Any) -> Any:
    """Convert field names to camel case. The vendor also accepts underscores, and its SDK sends both."""
    if isinstance(value, list):
        return [_spelled(one) for one in value]
    if not isinstance(value, dict):
        return value
    spelled = {re.sub(r"_([a-z])", lambda found: found[1].upper(), name): one for name, one in value.items()}
    return {name: one if name in _OPAQUE else _spelled(one) for name, one in spelled.items()}


def check(body: bytes, model: str, signature: Signature) -> GeminiRequest:
    """Check the request, and return it. Raises `ApiError` with a text like the vendor's."""
    try:
        request = msgspec.convert(_spelled(msgspec.json.decode(body)), GeminiRequest)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ApiError(400, f"Invalid JSON payload received. {str(error)[:500]}") from None
    contents = _merged(request.contents)
    turns = _fault_of_turns(contents) or _fault_of_signatures(contents, model, signature)
    for fault in (turns, *_faults_of_schemas(request), _fault_of_choice(request), _fault_of_thinking(request, model)):
        if fault:
            raise ApiError(400, fault)
    is_json = request.generation_config.response_mime_type == "application/json"
    if is_json and request.offered and not is_third(model):
        raise ApiError(400, "Function calling with a response mime type: 'application/json' is unsupported")
    return request


def check_count(body: bytes) -> None:
    """Check a request that counts tokens. Raises `ApiError`."""
    try:
        request = msgspec.convert(_spelled(msgspec.json.decode(body)), CountRequest)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ApiError(400, f"Invalid JSON payload received. {str(error)[:500]}") from None
    if (request.contents is None) == (request.generate_content_request is None):
        raise ApiError(400, "One of contents and generateContentRequest is needed.")


def is_third(model: str) -> bool:
    """Whether a model is of the third generation, which signs and numbers its calls, and thinks by level."""
    return model.startswith("gemini-3")


def _merged(contents: list[Content]) -> list[Content]:
    """Merge neighbours of one role into one turn: clients store each event of a stream as a content."""
    turns = [contents[0]]
    for content in contents[1:]:
        if content.role == turns[-1].role:
            turns[-1] = Content([*turns[-1].parts, *content.parts], content.role)
        else:
            turns.append(content)
    return turns


def _fault_of_turns(contents: list[Content]) -> str:
    awaited: list[FunctionCall] = []
    for content in contents:
        calls, responses = content.calls, content.responses
        if (calls and content.role != "model") or (responses and content.role != "user"):
            return "Please use a valid role: user, model."
        if fault := _fault_of_responses(responses, awaited):
            return fault
        awaited = calls
    if awaited:
        return _COUNTS
    roles = (contents[0].role, contents[-1].role)
    return "" if roles == ("user", "user") else "Please ensure that a conversation begins and ends with a user turn."


def _fault_of_responses(responses: list[FunctionResponse], awaited: list[FunctionCall]) -> str:
    if responses and not awaited:
        return _ORDER
    if [one.name for one in responses] != [one.name for one in awaited]:
        return _COUNTS
    is_known = [one.id for one in responses] == [one.id for one in awaited]
    return "" if is_known else "Please ensure that the ids of function responses are those of their calls."


def _fault_of_signatures(contents: list[Content], model: str, signature: Signature) -> str:
    """The vendor checks every signature, and requires one in each step since the user's last text."""
    asked = [place for place, one in enumerate(contents) if one.role == "user" and not one.responses]
    for place, content in enumerate(contents):
        for number, part in enumerate(content.parts):
            name = part.function_call.name if part.function_call is not None else ""
            if part.thought_signature not in {None, UNCHECKED, signature(name)}:
                return "Corrupted thought signature."
            is_first = name and not any(one.function_call is not None for one in content.parts[:number])
            is_checked = is_third(model) and is_first and place > asked[-1]
            if is_checked and part.thought_signature is None:
                return _MISSING.format(name, place + 1)
    return ""


def _faults_of_schemas(request: GeminiRequest) -> Iterator[str]:
    for number, (name, schema) in enumerate(request.offered.items()):
        place = f"tools[0].function_declarations[{number}].parameters_json_schema"
        if not isinstance(schema, dict) or schema.get("type") != "object":
            yield f"functionDeclaration parameters schema of {name} should be of type OBJECT."
        yield from _faults_of_schema(schema, place)
    if request.generation_config.response_json_schema is not None:
        yield from _faults_of_schema(request.generation_config.response_json_schema, "response_json_schema")


def _faults_of_schema(schema: Any, place: str) -> Iterator[str]:
    if not isinstance(schema, dict):
        yield f"Invalid value at '{place}'"
        return
    for name in schema.keys() - _KEYWORDS:
        yield f"Invalid JSON payload received. Unknown name \"{name}\" at '{place}': Cannot find field."
    if "$ref" in schema and any(not name.startswith("$") for name in schema):
        yield f"Invalid value at '{place}': beside $ref nothing may be said."
    if not isinstance(schema.get("type", ""), str):
        yield f"Proto field is not repeating, cannot start list at '{place}.type'."
    if schema.get("type") == "array" and not {"items", "prefixItems"} & schema.keys():
        yield f"GenerateContentRequest.{place}.items: missing field."
    for name, below in _below(schema):
        yield from _faults_of_schema(below, f"{place}.{name}")


def _below(schema: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The schemas within a schema, and where they are."""
    for group in ("properties", "$defs"):
        yield from ((f"{group}[{name}]", below) for name, below in schema.get(group, {}).items())
    for group in ("anyOf", "oneOf", "prefixItems"):
        yield from ((f"{group}[{number}]", below) for number, below in enumerate(schema.get(group, [])))
    for group in ("items", "additionalProperties"):
        if group in schema and not isinstance(schema[group], bool):
            yield group, schema[group]


def _fault_of_choice(request: GeminiRequest) -> str:
    calling = request.calling
    if set(calling.allowed_function_names or ()) - request.offered.keys():
        return "The allowed function names are not among the function declarations."
    if calling.allowed_function_names and calling.mode not in {"ANY", "VALIDATED"}:
        return "Allowed function names can only be set when function calling mode is ANY or VALIDATED."
    return "" if request.offered or calling.mode != "ANY" else "Function calling config is set without functions."


def _fault_of_thinking(request: GeminiRequest, model: str) -> str:
    config = request.generation_config.thinking_config or ThinkingConfig()
    budget, level = config.thinking_budget, config.thinking_level
    if budget is not None and level is not None:
        return "You can only set only one of thinking budget and thinking level."
    if level is not None and not is_third(model):
        return "Thinking level is not supported for this model."
    if level == "MINIMAL" and "pro" in model:
        return "Thinking level MINIMAL is not supported for this model."
    if budget == 0 and "pro" in model:
        return "Budget 0 is invalid. This model only works in thinking mode."
    return ""
