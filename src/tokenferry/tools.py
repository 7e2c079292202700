"""Functions of a program as tools of a model: schemas for each vendor's format, checked arguments, bounded results.

registry = Registry()

@registry.tool
def add(a: int, b: int) -> int:
    \"\"\"Add two numbers.\"\"\"
    return a + b

tools = registry.anthropic()  # or .openai(), .responses(), .gemini()
messages += registry.results(message)  # what the model's calls gave, as the next messages
"""

import asyncio
import inspect
import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeAlias, TypeVar, get_type_hints, overload

import msgspec

from tokenferry.errors import UsageError

__all__ = ["Registry"]

logger = logging.getLogger(__name__)

Dialect: TypeAlias = Literal["anthropic", "openai", "responses", "gemini"]
Function = TypeVar("Function", bound=Callable[..., Any])

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_TIMEOUT: Final = 60.0
_LONGEST_RESULT: Final = 100_000
_PLAIN: Final = (str, int, float, bool)


class _Tool(msgspec.Struct, frozen=True):
    name: str
    function: Callable[..., Any]
    arguments: type[msgspec.Struct]
    description: str
    schema: dict[str, Any]
    timeout: float | None

    def call(self, arguments: object) -> Any:
        """Call the function; give its result, or a coroutine. Raises `msgspec.ValidationError` for wrong arguments."""
        if isinstance(arguments, str | bytes):
            found = msgspec.json.decode(arguments or b"{}", type=self.arguments)
        else:
            found = msgspec.convert({} if arguments is None else arguments, self.arguments)
        given = {name: getattr(found, name) for name in found.__struct_fields__}
        return self.function(**{name: value for name, value in given.items() if value is not msgspec.UNSET})


class _ToolCall(msgspec.Struct, frozen=True):
    """A model's call of a tool, whatever its format."""

    dialect: Dialect
    id: str | None
    name: str
    arguments: object

    def result(self, text: str, *, is_error: bool) -> dict[str, Any]:
        """The function's result in the format of the call."""
        match self.dialect:
            case "anthropic":
                block = {"type": "tool_result", "tool_use_id": self.id, "content": text}
                return {**block, "is_error": True} if is_error else block
            case "openai":
                return {"role": "tool", "tool_call_id": self.id, "content": text}
            case "responses":
                return {"type": "function_call_output", "call_id": self.id, "output": text}
        response = {"name": self.name, "response": {"error" if is_error else "output": text}}
        return {"functionResponse": response if self.id is None else {"id": self.id, **response}}


class Registry:
    """A program's tools by name.

    A function's parameters are typed; defaults make them optional, and `Annotated[str, msgspec.Meta(description="…")]`
    describes one. Its docstring is the tool's description. `timeout` is in seconds and ends asynchronous tools alone: a
    synchronous one can't be stopped. A result longer than `longest_result` characters is cut, and says so.
    """

    def __init__(self, *, timeout: float | None = _TIMEOUT, longest_result: int = _LONGEST_RESULT) -> None:
        self._timeout = timeout
        self._longest_result = longest_result
        self._tools: dict[str, _Tool] = {}

    @overload
    def tool(self, function: Function, /) -> Function: ...
    @overload
    def tool(
        self, /, *, name: str | None = None, description: str | None = None, timeout: float | None = None
    ) -> Callable[[Function], Function]: ...
    def tool(
        self,
        function: Any = None,
        /,
        *,
        name: str | None = None,
        description: str | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Register a function, as a decorator with or without arguments; it stays as it is.

        Raises `UsageError` for a name that is taken or that a vendor refuses, and for a parameter that has no type, has
        one that JSON can't express, or can't be passed by its name.
        """

        def register(function: Function) -> Function:
            made = _tool(function, name, description, self._timeout if timeout is None else timeout)
            if made.name in self._tools:
                raise UsageError(f"there is a tool {made.name!r} already; give this one another name: tool(name=...)")
            self._tools[made.name] = made
            return function

        return register if function is None else register(function)

    def anthropic(self) -> list[dict[str, Any]]:
        """The tools for `tools` of Anthropic's Messages API."""
        return [
            {"name": tool.name, "description": tool.description, "input_schema": tool.schema}
            for tool in self._tools.values()
        ]

    def openai(self) -> list[dict[str, Any]]:
        """The tools for `tools` of OpenAI's Chat Completions API."""
        return [
            {
                "type": "function",
                "function": {"name": tool.name, "description": tool.description, "parameters": tool.schema},
            }
            for tool in self._tools.values()
        ]

    def responses(self) -> list[dict[str, Any]]:
        """The tools for `tools` of OpenAI's Responses API."""
        return [{"type": "function", **tool["function"], "strict": False} for tool in self.openai()]

    def gemini(self) -> list[dict[str, Any]]:
        """The tools for `tools` of Gemini's API."""
        declared = [
            {"name": tool.name, "description": tool.description, "parametersJsonSchema": tool.schema}
            for tool in self._tools.values()
        ]
        return [{"functionDeclarations": declared}] if declared else []

    def call(self, tool_use: object) -> dict[str, Any]:
        """Call what one `tool_use` block, tool call or `functionCall` names, and give its result in the same format.

        An unknown tool, arguments that don't fit, a time-out and an exception of the tool are results as well, which
        tell the model what is wrong. Raises `UsageError` for anything but a call, and for an asynchronous tool where an
        event loop runs: await `acall` there.
        """
        call = _call_of(tool_use)
        tool = self._tools.get(call.name)
        if tool is not None and inspect.iscoroutinefunction(tool.function):
            if _has_loop():
                raise UsageError(f"the tool {call.name} is asynchronous and an event loop runs here: await acall(...)")
            return asyncio.run(self.acall(tool_use))
        try:
            return self._result(call, self._known(call).call(call.arguments))
        except Exception as fault:  # noqa: BLE001  # the model gets it
            return self._error(call, fault)

    async def acall(self, tool_use: object) -> dict[str, Any]:
        """The same on an event loop. A synchronous tool runs in a thread."""
        call = _call_of(tool_use)
        try:
            tool = self._known(call)
            if not inspect.iscoroutinefunction(tool.function):
                return self._result(call, await asyncio.to_thread(tool.call, call.arguments))
            async with asyncio.timeout(tool.timeout):
                return self._result(call, await tool.call(call.arguments))
        except Exception as fault:  # noqa: BLE001  # the model gets it
            return self._error(call, fault)

    def results(self, message: object) -> list[dict[str, Any]]:
        """Call what a model's message asks for, and give the messages that answer it: none if it asks for nothing.

        `message` is an answer of an SDK, or the same as a dict.
        """
        return _messages([self.call(one) for one in _calls_in(message)])

    async def aresults(self, message: object) -> list[dict[str, Any]]:
        """The same on an event loop, with all calls at once."""
        return _messages(await asyncio.gather(*(self.acall(one) for one in _calls_in(message))))

    def _known(self, call: _ToolCall) -> _Tool:
        tool = self._tools.get(call.name)
        if tool is None:
            raise LookupError(f"there is no tool {call.name!r}; there are: {', '.join(self._tools) or 'none'}")
        return tool

    def _result(self, call: _ToolCall, found: object, *, is_error: bool = False) -> dict[str, Any]:
        text = found if isinstance(found, str) else msgspec.json.encode(found).decode()
        if len(text) > self._longest_result:
            text = f"{text[: self._longest_result]}\n[cut: {self._longest_result} of {len(text)} characters]"
        return call.result(text, is_error=is_error)

    def _error(self, call: _ToolCall, fault: Exception) -> dict[str, Any]:
        match fault:
            case msgspec.MsgspecError():
                text = f"the arguments don't fit, or the result is not JSON: {fault}"
            case TimeoutError():
                text = "the tool took too long and was stopped"
            case LookupError() if call.name not in self._tools:
                text = str(fault)
            case _:
                logger.warning("the tool %s failed", call.name, exc_info=fault)
                text = f"the tool failed: {type(fault).__name__}: {fault}"
        return self._result(call, text, is_error=True)


def _tool(function: Callable[..., Any], name: str | None, description: str | None, timeout: float | None) -> _Tool:
    name = name or function.__name__
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} can't be the name of a tool: use at most 64 letters, digits, _ and -")
    hints = get_type_hints(function, include_extras=True)
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise UsageError(f"parameter {parameter.name!r} of the tool {name} can't be passed by its name")
        if parameter.name not in hints:
            raise UsageError(f"parameter {parameter.name!r} of the tool {name} needs a type: {parameter.name}: str")
        kind, default = hints[parameter.name], parameter.default
        if default is parameter.empty:
            fields.append((parameter.name, kind))
        elif default is None or isinstance(default, _PLAIN):
            fields.append((parameter.name, kind, default))
        else:  # the function's own default holds
            fields.append((parameter.name, kind | msgspec.UnsetType, msgspec.UNSET))
    try:
        arguments = msgspec.defstruct(name, fields, kw_only=True, forbid_unknown_fields=True)
        schema = _schema(arguments)
    except (TypeError, ValueError) as fault:
        raise UsageError(f"the parameters of the tool {name} have no JSON schema: {fault}") from None
    return _Tool(name, function, arguments, description or inspect.getdoc(function) or name, schema, timeout)


def _schema(arguments: type[msgspec.Struct]) -> dict[str, Any]:
    """An object's schema at the top, as the vendors want it; others that it refers to are in `$defs`."""
    (reference,), others = msgspec.json.schema_components([arguments], ref_template="#/$defs/{name}")
    schema: dict[str, Any] = others.pop(reference["$ref"].rpartition("/")[2])
    schema.pop("title", None)
    return {**schema, "$defs": others} if others else schema


def _get(found: object, *names: str) -> Any:
    """A field of a dict, or of an SDK's object; None where it has none."""
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else getattr(found, name, None)
    return found


def _call_of(tool_use: object) -> _ToolCall:
    kind = _get(tool_use, "type")
    gemini = _get(tool_use, "functionCall") or _get(tool_use, "function_call") or tool_use
    if kind == "tool_use":
        found = _ToolCall("anthropic", _get(tool_use, "id"), _get(tool_use, "name"), _get(tool_use, "input"))
    elif kind == "function_call":
        found = _ToolCall("responses", _get(tool_use, "call_id"), _get(tool_use, "name"), _get(tool_use, "arguments"))
    elif _get(tool_use, "function") is not None:
        name, arguments = _get(tool_use, "function", "name"), _get(tool_use, "function", "arguments")
        found = _ToolCall("openai", _get(tool_use, "id"), name, arguments)
    else:
        found = _ToolCall("gemini", _get(gemini, "id"), _get(gemini, "name"), _get(gemini, "args"))
    if not isinstance(found.name, str):
        raise UsageError("this isn't a call of a tool; pass a tool_use block, a tool call or a functionCall")
    return found


def _calls_in(message: object) -> list[object]:
    if (output := _get(message, "output")) is not None:
        return [item for item in output if _get(item, "type") == "function_call"]
    if choices := _get(message, "choices"):
        message = _get(choices[0], "message")
    if candidates := _get(message, "candidates"):
        message = _get(candidates[0], "content")
    if (parts := _get(message, "parts")) is not None:
        return [part for part in parts if _get(part, "functionCall") or _get(part, "function_call")]
    if calls := _get(message, "tool_calls"):
        return list(calls)
    content = _get(message, "content")
    if isinstance(content, list):
        return [block for block in content if _get(block, "type") == "tool_use"]
    return []


def _messages(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if results and "functionResponse" in results[0]:
        return [{"role": "user", "parts": results}]
    if results and results[0].get("type") == "tool_result":
        return [{"role": "user", "content": results}]
    return results


def _has_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
