"""Requests of Chat Completions as ones of the Messages API."""

import re
from typing import Any, Final

import msgspec
from msgspec import UNSET

from tokenferry.errors import Unfit
from tokenferry.wire._codec import Sent
from tokenferry.wire._field_handling import FieldHandlings, FieldTable, kept, left_out, unfit
from tokenferry.wire._ids import call_id, changed_names, tool_name
from tokenferry.wire._json import RequestReader, encode, is_object
from tokenferry.wire._quirks import Quirks
from tokenferry.wire.chat import _models as chat
from tokenferry.wire.messages import _models as messages

_MARK: Final = left_out("a hint for prompt caches")
_NAME: Final = left_out()

FIELD_HANDLINGS: Final[FieldHandlings] = {
    chat.ChatRequest: {
        "model": kept("the target's model"),
        "messages": kept("neighbours of one role become one"),
        "tools": kept("functions; other types: unfit"),
        "tool_choice": kept("auto, any, a tool, none; allowed tools: unfit"),
        "parallel_tool_calls": kept("`disable_parallel_tool_use`"),
        "max_completion_tokens": kept("`max_tokens`"),
        "max_tokens": kept("without any limit, the model's own or 32,000"),
        "stop": kept("without those of white space alone"),
        "stream": kept(),
        "stream_options": kept("`include_usage`"),
        "temperature": kept("at most 1"),
        "top_p": kept("beside a temperature left out"),
        "top_k": kept(),
        "reasoning_effort": kept("`thinking` where the model takes it and the conversation allows it, else left out"),
        "response_format": kept("`output_config.format`; for `json_object` an instruction"),
        "n": kept("more than one: unfit"),
        "audio": unfit(),
        "modalities": kept("all but text: unfit"),
        "logprobs": kept("unfit if asked for"),
        "top_logprobs": left_out("means nothing without `logprobs`"),
        "functions": unfit("the form before `tools`"),
        "function_call": unfit("the form before `tool_choice`"),
        "web_search_options": unfit("a tool that the server runs"),
        "moderation": left_out(),
        "frequency_penalty": left_out(),
        "presence_penalty": left_out(),
        "logit_bias": left_out(),
        "seed": left_out(),
        "store": left_out(),
        "metadata": left_out(),
        "user": left_out("it may name a person"),
        "safety_identifier": left_out("it may name a person"),
        "prompt_cache_key": _MARK,
        "prompt_cache_options": _MARK,
        "prompt_cache_retention": _MARK,
        "prediction": left_out(),
        "service_tier": left_out(),
        "verbosity": left_out(),
    },
    chat.SystemMessage: {
        "content": kept("`system`; amid the conversation a user's text between `<system-reminder>` tags"),
        "name": _NAME,
    },
    chat.DeveloperMessage: {"content": kept("as of `system`"), "name": _NAME},
    chat.UserMessage: {"content": kept("without empty texts"), "name": _NAME},
    chat.AssistantMessage: {
        "content": kept("without empty texts"),
        "tool_calls": kept("`tool_use`; arguments that are no JSON object: unfit"),
        "reasoning_content": kept("always left out: it has no signature"),
        "refusal": kept("as text"),
        "function_call": unfit("the form before `tool_calls`"),
        "audio": unfit(),
        "name": _NAME,
    },
    chat.ToolMessage: {
        "tool_call_id": kept("each call has exactly one result, else unfit"),
        "content": kept("`tool_result`"),
        "name": _NAME,
    },
    chat.TextPart: {"text": kept(), "prompt_cache_breakpoint": _MARK},
    chat.ImagePart: {"image_url": kept("data and http URLs"), "prompt_cache_breakpoint": _MARK},
    chat.ImageUrl: {"url": kept(), "detail": left_out()},
    chat.FilePart: {"file": kept("PDF documents; others: unfit"), "prompt_cache_breakpoint": _MARK},
    chat.FileData: {
        "filename": kept("`title`"),
        "file_data": kept("a data URL"),
        "file_id": kept("always unfit: the file is the vendor's"),
    },
    chat.RefusalPart: {"refusal": kept("as text")},
    chat.ToolCall: {"id": kept(), "function": kept()},
    chat.FunctionCall: {"name": kept(), "arguments": kept()},
    chat.ChatTool: {"function": kept()},
    chat.FunctionSpec: {
        "name": kept(),
        "description": kept(),
        "parameters": kept("as they are"),
        "strict": kept(),
    },
    chat.ChatToolChoice: {"function": kept()},
    chat.NamedFunction: {"name": kept()},
    chat.StreamOptions: {"include_usage": kept(), "include_obfuscation": left_out()},
    chat.ResponseFormat: {"type": kept(), "json_schema": kept()},
    chat.JsonSchema: {
        "name": kept("always left out"),
        "schema": kept("every object is closed"),
        "strict": kept("always so"),
        "description": kept("always left out"),
    },
}

TABLE: Final = FieldTable(FIELD_HANDLINGS)
_reader: Final = RequestReader(chat.ChatRequest)
_DATA_URL: Final = re.compile(r"data:([a-z]+/[a-z0-9.+-]+);base64,")
_WEB: Final = ("https://", "http://")
_LIMIT: Final = 32_000
_LONGEST_NAME: Final = 128
_LEAST_BUDGET: Final = 1024
_BUDGETS: Final = {"minimal": 1024, "low": 4096, "medium": 16384, "high": 32000, "xhigh": 32000, "max": 32000}
_CHOICES: Final = {"auto": "auto", "required": "any", "any": "any", "none": "none"}
_EMPTY_SCHEMA: Final = msgspec.Raw(b'{"type":"object","properties":{}}')
_JSON_ONLY: Final = "Answer with one JSON object and with nothing else."


def from_chat(body: bytes, model: str, quirks: Quirks, at: int) -> Sent:
    """The request for an upstream that calls the model so. Raises `Unfit`."""
    left: set[str] = set()
    asked = _reader.read(body, left)
    _check(asked, left)
    history = _Turns(left)
    for message in asked.messages:
        history.add(message)
    system, turns = history.end()
    config = _output(asked.response_format)
    if asked.response_format is not None and asked.response_format.type == "json_object":
        system.append(messages.TextContent(text=_JSON_ONLY))
    stops = [asked.stop] if isinstance(asked.stop, str) else asked.stop or []
    limit = asked.max_completion_tokens or asked.max_tokens or quirks.max_output_tokens or _LIMIT
    tools = [_tool(tool) for tool in asked.tools or ()]
    request = messages.MessagesRequest(
        model=model,
        messages=turns,
        max_tokens=limit if quirks.max_output_tokens is None else min(limit, quirks.max_output_tokens),
        system=system or None,
        tools=tools or None,
        tool_choice=_choice(asked) if tools else None,
        stop_sequences=[stop for stop in stops if stop.strip()] or None,
        stream=asked.stream or None,
        temperature=asked.temperature,
        top_p=asked.top_p,
        top_k=asked.top_k,
        output_config=config,
    )
    _sampling(request, left)
    _think(asked, request, quirks, left, may_think=history.may_think)
    options = asked.stream_options
    return Sent(
        body=encode(request),
        model=model,
        stream=bool(asked.stream),
        left_out=tuple(sorted(left)),
        names=changed_names((tool.function.name for tool in asked.tools or ()), _LONGEST_NAME),
        wants_usage=options is not None and bool(options.include_usage),
        at=at,
    )


def _check(asked: chat.ChatRequest, left: set[str]) -> None:
    TABLE.apply(asked, left)
    if asked.n is not None and asked.n != 1:
        raise Unfit("n: one answer at a time")
    if asked.logprobs:
        raise Unfit("logprobs have no counterpart there")
    if asked.modalities is not None and asked.modalities != ["text"]:
        raise Unfit("modalities: text alone")
    if asked.stream_options is not None:
        TABLE.apply(asked.stream_options, left)


def _sampling(request: messages.MessagesRequest, left: set[str]) -> None:
    if request.temperature is not None:
        if request.temperature > 1:
            request.temperature = 1
            left.add("temperature")
        if request.top_p is not None:
            request.top_p = None
            left.add("top_p")


class _Turns:
    """The conversation as it is written: roles alternate, and the results of calls begin the turn after them."""

    def __init__(self, left: set[str]) -> None:
        self._left = left
        self._system: list[messages.TextContent] = []
        self._turns: list[messages.Turn] = []
        self._awaited: dict[str, str] = {}
        """The ids of calls without a result yet, by those that are sent for them."""
        self.may_think = True
        """Whether the last turn that the model took was no call: those have to come with their thinking."""

    def add(self, message: chat.ChatMessage) -> None:
        TABLE.apply(message, self._left)
        match message:
            case chat.SystemMessage() | chat.DeveloperMessage():
                self._told(message.content)
            case chat.UserMessage(content=content):
                parts = [chat.TextPart(text=content)] if isinstance(content, str) else content
                self._append("user", [block for part in parts for block in self._part(part)])
            case chat.ToolMessage():
                self._result(message)
            case chat.AssistantMessage():
                self._assistant(message)

    def end(self) -> tuple[list[messages.TextContent], list[messages.Turn]]:
        """The system prompt and the turns. Raises `Unfit` where a call has no result."""
        self._check()
        if not self._turns:
            raise Unfit("the request has no message that isn't empty")
        last = self._turns[-1]
        if last.role == "assistant" and isinstance(block := last.content[-1], messages.TextContent):
            block.text = block.text.rstrip()
        return self._system, self._turns

    def _check(self) -> None:
        if self._awaited:
            raise Unfit(f"the tool call {next(iter(self._awaited.values()))[:80]!r} has no result right after it")

    def _told(self, content: chat.Texts) -> None:
        text = self._joined(content)
        if not text:
            return
        if self._turns:
            reminder = f"<system-reminder>\n{text}\n</system-reminder>"
            self._append("user", [messages.TextContent(text=reminder)])
        else:
            self._system.append(messages.TextContent(text=text))

    def _joined(self, content: chat.Texts) -> str:
        if isinstance(content, str):
            return content
        for part in content:
            TABLE.apply(part, self._left)
        return "\n".join(part.text for part in content)

    def _append(self, role: Any, blocks: list[messages.Content]) -> None:
        if not blocks:
            return
        if self._turns and self._turns[-1].role == role:
            content = self._turns[-1].content
            assert isinstance(content, list)
            content += blocks
        else:
            self._turns.append(messages.Turn(role=role, content=blocks))

    def _part(self, part: chat.UserPart) -> list[messages.Content]:
        TABLE.apply(part, self._left)
        match part:
            case chat.TextPart(text=text):
                return [messages.TextContent(text=text)] if text.strip() else []
            case chat.ImagePart(image_url=image):
                TABLE.apply(image, self._left)
                if image.url.startswith(_WEB):
                    return [messages.ImageContent(source=messages.UrlSource(url=image.url))]
                return [messages.ImageContent(source=_data(image.url, "an image's URL"))]
            case chat.FilePart(file=file):
                if file.file_data is None:
                    raise Unfit("a file by its id")
                source = _data(file.file_data, "a file")
                if source.media_type != "application/pdf":
                    raise Unfit("a file that is no PDF document")
                return [messages.DocumentContent(source=source, title=file.filename)]

    def _result(self, message: chat.ToolMessage) -> None:
        known = call_id(message.tool_call_id, "any")
        if self._awaited.pop(known, None) is None:
            raise Unfit(f"the tool message {message.tool_call_id[:80]!r} has no call right before it, or is the second")
        result = messages.ToolResultContent(tool_use_id=known, content=self._joined(message.content))
        if self._turns[-1].role == "assistant":
            self._append("user", [result])
        else:
            content = self._turns[-1].content
            assert isinstance(content, list)
            place = next(
                (at for at, one in enumerate(content) if not isinstance(one, messages.ToolResultContent)), len(content)
            )
            content.insert(place, result)

    def _assistant(self, message: chat.AssistantMessage) -> None:
        self._check()
        if message.reasoning_content:
            self._left.add("reasoning_content")
        content = message.content or []
        parts = [chat.TextPart(text=content)] if isinstance(content, str) else content
        texts = [part.text if isinstance(part, chat.TextPart) else part.refusal for part in parts]
        texts.append(message.refusal or "")
        blocks: list[messages.Content] = [messages.TextContent(text=text) for text in texts if text.strip()]
        calls = message.tool_calls or []
        self.may_think = not calls
        self._append("assistant", blocks + [self._call(call) for call in calls])

    def _call(self, call: chat.ToolCall) -> messages.ToolUseContent:
        known = call_id(call.id, "any")
        arguments = call.function.arguments.strip() or "{}"
        if not is_object(arguments):
            raise Unfit(f"the arguments of the tool call {call.id[:80]!r} are no JSON object")
        if known in self._awaited:
            raise Unfit(f"two tool calls have the id {call.id[:80]!r}")
        self._awaited[known] = call.id
        name = tool_name(call.function.name, _LONGEST_NAME)
        return messages.ToolUseContent(id=known, name=name, input=msgspec.Raw(arguments.encode()))


def _data(url: str, what: str) -> messages.Base64Source:
    found = _DATA_URL.match(url)
    if found is None:
        raise Unfit(f"{what} is neither http nor base64 data")
    return messages.Base64Source(media_type=found[1], data=url[found.end() :])


def _tool(tool: chat.ChatTool) -> messages.FunctionTool:
    spec = tool.function
    return messages.FunctionTool(
        name=tool_name(spec.name, _LONGEST_NAME),
        description=spec.description,
        input_schema=_EMPTY_SCHEMA if spec.parameters is UNSET else spec.parameters,
        strict=spec.strict or None,
    )


def _choice(asked: chat.ChatRequest) -> messages.ToolChoice | None:
    choice = asked.tool_choice
    alone = True if asked.parallel_tool_calls is False else None
    if isinstance(choice, chat.ChatToolChoice):
        name = tool_name(choice.function.name, _LONGEST_NAME)
        return messages.ToolChoice(type="tool", name=name, disable_parallel_tool_use=alone)
    if choice is None and alone is None:
        return None
    kind: Any = _CHOICES[choice or "auto"]
    return messages.ToolChoice(type=kind, disable_parallel_tool_use=None if kind == "none" else alone)


def _output(asked: chat.ResponseFormat | None) -> messages.OutputConfig | None:
    if asked is None or asked.type != "json_schema":
        return None
    if asked.json_schema is None or asked.json_schema.schema is UNSET:
        raise Unfit("response_format names no schema")
    schema = msgspec.json.decode(asked.json_schema.schema)
    return messages.OutputConfig(
        format=messages.OutputFormat(type="json_schema", schema=msgspec.Raw(encode(_close(schema))))
    )


def _close(schema: Any) -> Any:
    """The schema with every object closed, as the Messages API wants."""
    if isinstance(schema, list):
        return [_close(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _close(one) for name, one in schema.items()}
    if schema.get("type") == "object":
        closed["additionalProperties"] = False
    return closed


def _think(
    asked: chat.ChatRequest, request: messages.MessagesRequest, quirks: Quirks, left: set[str], *, may_think: bool
) -> None:
    effort = asked.reasoning_effort
    if effort is None or effort == "none":
        return
    forced = request.tool_choice is not None and request.tool_choice.type in {"any", "tool"}
    budget = min(_BUDGETS.get(effort, 0), request.max_tokens - 1)
    if quirks.thinking == "never" or forced or not may_think or budget < _LEAST_BUDGET:
        left.add("reasoning_effort")
        return
    if quirks.thinking == "budget":
        request.thinking = messages.ThinkingConfig(type="enabled", budget_tokens=budget)
    else:
        request.thinking = messages.ThinkingConfig(type="adaptive")
        config = request.output_config = request.output_config or messages.OutputConfig()
        config.effort = "low" if effort == "minimal" else effort
    for name in ("temperature", "top_p", "top_k"):  # none of them is taken beside thinking
        if getattr(request, name) is not None:
            setattr(request, name, None)
            left.add(name)
