"""Requests of Chat Completions as ones of the Messages API."""

from typing import Any, Final

import msgspec
from msgspec import UNSET

from tokenferry.errors import Unfit
from tokenferry.wire._codec import Sent
from tokenferry.wire._field_handling import FieldHandlings, FieldTable, kept, left_out, unfit
from tokenferry.wire._ids import changed_names, tool_name
from tokenferry.wire._json import RequestReader, encode, is_object
from tokenferry.wire._quirks import Quirks
from tokenferry.wire._schema import closed
from tokenferry.wire.chat import _models as chat
from tokenferry.wire.messages import _models as messages
from tokenferry.wire.messages._sampling import ask_for_thinking, limit_sampling
from tokenferry.wire.messages._turns import LONGEST_NAME, TurnWriter, document_block, image_block, text_blocks

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
        "temperature": kept("at most 1; left out where the model takes none"),
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
        "system": unfit("the prompt of another API, which this one doesn't know"),
        "instructions": unfit("the prompt of another API, which this one doesn't know"),
        "input": unfit("the prompt of another API, which this one doesn't know"),
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
_LIMIT: Final = 32_000
_CHOICES: Final = {"auto": "auto", "required": "any", "any": "any", "none": "none"}
_EMPTY_SCHEMA: Final = msgspec.Raw(b'{"type":"object","properties":{}}')
_JSON_ONLY: Final = "Answer with one JSON object and with nothing else."


def from_chat(body: bytes, model: str, quirks: Quirks, at: int, *, is_last: bool) -> Sent:
    """The request for an upstream that calls the model so. Raises `Unfit`.

    Claude's own rules hold if this codec `is_last`, so that Claude gets what it writes.
    """
    left: set[str] = set()
    asked = _reader.read(body, left)
    _check(asked, left)
    history = _History(left)
    for message in asked.messages:
        history.add(message)
    system, turns = history.turns.end()
    config = _output(asked.response_format)
    if asked.response_format is not None and asked.response_format.type == "json_object":
        history.turns.instruct(_JSON_ONLY)
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
    if is_last:
        limit_sampling(request, quirks, left)
    may_think = history.turns.may_think or not is_last
    dropped = ask_for_thinking(asked.reasoning_effort, request, quirks, may_think=may_think, is_last=is_last)
    left.update("reasoning_effort" if name == "effort" else name for name in dropped)
    options = asked.stream_options
    return Sent(
        body=encode(request),
        model=model,
        stream=bool(asked.stream),
        path="/v1/messages",
        left_out=tuple(sorted(left)),
        names=changed_names((tool.function.name for tool in asked.tools or ()), LONGEST_NAME),
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


class _History:
    """The conversation as it is written."""

    def __init__(self, left: set[str]) -> None:
        self.turns = TurnWriter()
        self._left = left

    def add(self, message: chat.ChatMessage) -> None:
        TABLE.apply(message, self._left)
        match message:
            case chat.SystemMessage() | chat.DeveloperMessage():
                self.turns.system(self._joined(message.content))
            case chat.UserMessage(content=content):
                parts = [chat.TextPart(text=content)] if isinstance(content, str) else content
                self.turns.add("user", [block for part in parts for block in self._part(part)])
            case chat.ToolMessage():
                self.turns.result(message.tool_call_id, self._joined(message.content))
            case chat.AssistantMessage():
                self._assistant(message)

    def _joined(self, content: chat.Texts) -> str:
        if isinstance(content, str):
            return content
        for part in content:
            TABLE.apply(part, self._left)
        return "\n".join(part.text for part in content)

    def _part(self, part: chat.UserPart) -> list[messages.Content]:
        TABLE.apply(part, self._left)
        match part:
            case chat.TextPart(text=text):
                return text_blocks([text])
            case chat.ImagePart(image_url=image):
                TABLE.apply(image, self._left)
                return [image_block(image.url)]
            case chat.FilePart(file=file):
                if file.file_data is None:
                    raise Unfit("a file by its id")
                return [document_block(file.filename, file.file_data)]

    def _assistant(self, message: chat.AssistantMessage) -> None:
        self.turns.check()
        if message.reasoning_content:
            self._left.add("reasoning_content")
        content = message.content or []
        parts = [chat.TextPart(text=content)] if isinstance(content, str) else content
        texts = [part.text if isinstance(part, chat.TextPart) else part.refusal for part in parts]
        blocks = text_blocks([*texts, message.refusal or ""])
        self.turns.add("assistant", blocks + [self._call(call) for call in message.tool_calls or ()])

    def _call(self, call: chat.ToolCall) -> messages.ToolUseContent:
        arguments = call.function.arguments.strip() or "{}"
        if not is_object(arguments):
            raise Unfit(f"the arguments of the tool call {call.id[:80]!r} are no JSON object")
        return self.turns.call(call.id, call.function.name, msgspec.Raw(arguments.encode()))


def _tool(tool: chat.ChatTool) -> messages.FunctionTool:
    spec = tool.function
    return messages.FunctionTool(
        name=tool_name(spec.name, LONGEST_NAME),
        description=spec.description,
        input_schema=_EMPTY_SCHEMA if spec.parameters is UNSET else spec.parameters,
        strict=spec.strict or None,
    )


def _choice(asked: chat.ChatRequest) -> messages.ToolChoice | None:
    choice = asked.tool_choice
    alone = True if asked.parallel_tool_calls is False else None
    if isinstance(choice, chat.ChatToolChoice):
        name = tool_name(choice.function.name, LONGEST_NAME)
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
    schema = closed(asked.json_schema.schema)
    return messages.OutputConfig(format=messages.OutputFormat(type="json_schema", schema=schema))
