"""Translates requests of Chat Completions to the Messages API."""

from typing import Any, Final

import msgspec
from msgspec import UNSET

from tokenferry.errors import Unfit
from tokenferry.wire._codec import Sent
from tokenferry.wire._field_handling import FieldHandlings, FieldTable, ignored, left_out, translated, unfit
from tokenferry.wire._ids import changed_names, tool_name
from tokenferry.wire._json import RequestReader, encode, is_object
from tokenferry.wire._quirks import Quirks
from tokenferry.wire._schema import closed, object_schema
from tokenferry.wire.chat import _models as chat
from tokenferry.wire.messages import _models as messages
from tokenferry.wire.messages._sampling import ask_for_thinking, limit_sampling
from tokenferry.wire.messages._tools import check_choice
from tokenferry.wire.messages._turns import LONGEST_NAME, TurnWriter, document_block, image_block, text_blocks

_MARK: Final = left_out("it is a hint for prompt caches")
_NAME: Final = left_out()

FIELD_HANDLINGS: Final[FieldHandlings] = {
    chat.ChatRequest: {
        "model": translated("becomes the target's model"),
        "messages": translated("adjacent messages of one role become one"),
        "tools": translated("functions; any other type is unfit"),
        "tool_choice": translated("becomes auto, any, a tool or none; allowed tools are unfit"),
        "parallel_tool_calls": translated("becomes `disable_parallel_tool_use`"),
        "max_completion_tokens": translated("becomes `max_tokens`"),
        "max_tokens": translated("the default is the model's limit or 32,000"),
        "stop": translated("without sequences of white space only"),
        "stream": translated(),
        "stream_options": translated("only `include_usage`"),
        "temperature": translated("at most 1; left out if the model takes no temperature"),
        "top_p": translated("left out if there is a temperature"),
        "top_k": translated(),
        "reasoning_effort": translated(
            "becomes `thinking` if the model and the conversation allow it; otherwise left out"
        ),
        "response_format": translated(
            "becomes `output_config.format`; `json_object` becomes an instruction in the system prompt"
        ),
        "n": translated("more than one is unfit"),
        "audio": unfit(),
        "modalities": translated("anything but text is unfit"),
        "logprobs": translated("`true` is unfit"),
        "top_logprobs": left_out("it has no effect without `logprobs`"),
        "functions": unfit("send `tools`"),
        "function_call": unfit("send `tool_choice`"),
        "web_search_options": unfit("the server runs this tool"),
        "system": unfit("it is the prompt of another API"),
        "instructions": unfit("it is the prompt of another API"),
        "input": unfit("it is the prompt of another API"),
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
        "content": translated("becomes `system`; later in the conversation, user text in `<system-reminder>` tags"),
        "name": _NAME,
    },
    chat.DeveloperMessage: {"content": translated("as for `system`"), "name": _NAME},
    chat.UserMessage: {"content": translated("without empty texts"), "name": _NAME},
    chat.AssistantMessage: {
        "content": translated("without empty texts"),
        "tool_calls": translated("becomes `tool_use`; unfit unless the arguments are a JSON object"),
        "reasoning_content": left_out("it has no signature", by_codec=True),
        "refusal": translated("becomes text"),
        "function_call": unfit("send `tool_calls`"),
        "audio": unfit(),
        "name": _NAME,
    },
    chat.ToolMessage: {
        "tool_call_id": translated("unfit unless each call has exactly one result"),
        "content": translated("becomes `tool_result`"),
        "name": _NAME,
    },
    chat.TextPart: {"text": translated(), "prompt_cache_breakpoint": _MARK},
    chat.ImagePart: {"image_url": translated("data and http URLs"), "prompt_cache_breakpoint": _MARK},
    chat.ImageUrl: {"url": translated(), "detail": left_out()},
    chat.FilePart: {"file": translated("PDF documents; any other file is unfit"), "prompt_cache_breakpoint": _MARK},
    chat.FileData: {
        "filename": translated("becomes `title`"),
        "file_data": translated("as a data URL"),
        "file_id": unfit("the file is stored at another vendor", by_codec=True),
    },
    chat.RefusalPart: {"refusal": translated("becomes text")},
    chat.ToolCall: {"id": translated(), "function": translated()},
    chat.FunctionCall: {"name": translated(), "arguments": translated()},
    chat.ChatTool: {"function": translated()},
    chat.FunctionSpec: {
        "name": translated(),
        "description": translated(),
        "parameters": translated("unchanged"),
        "strict": translated(),
    },
    chat.ChatToolChoice: {"function": translated()},
    chat.NamedFunction: {"name": translated()},
    chat.StreamOptions: {"include_usage": translated(), "include_obfuscation": left_out()},
    chat.ResponseFormat: {"type": translated(), "json_schema": translated()},
    chat.JsonSchema: {
        "name": ignored(),
        "schema": translated("every object but a map gets `additionalProperties: false`"),
        "strict": ignored("the schema is always enforced"),
        "description": ignored(),
    },
}

TABLE: Final = FieldTable(FIELD_HANDLINGS)
_reader: Final = RequestReader(chat.ChatRequest)
_CHOICES: Final = {"auto": "auto", "required": "any", "any": "any", "none": "none"}
_JSON_ONLY: Final = "Answer with one JSON object and with nothing else."


def from_chat(body: bytes, model: str, quirks: Quirks, at: int, *, is_last: bool) -> Sent:
    """Translate a request for an upstream whose name for the model is `model`. Raises `Unfit`.

    `at` is the time of the request in seconds since 1970 UTC. `is_last` says that no other codec follows: the request
    goes to Claude and must obey Claude's limits.
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
    tools = [_tool(tool) for tool in asked.tools or ()]
    choice = _choice(asked)
    check_choice(choice, {tool.name for tool in tools})
    request = messages.MessagesRequest(
        model=model,
        messages=turns,
        max_tokens=quirks.output_limit(asked.max_completion_tokens or asked.max_tokens or None),
        system=system or None,
        tools=tools or None,
        tool_choice=choice if tools else None,
        stop_sequences=[stop for stop in stops if stop.strip()] or None,
        stream=asked.stream or None,
        temperature=asked.temperature,
        top_p=asked.top_p,
        top_k=asked.top_k,
        output_config=config,
    )
    if is_last:
        limit_sampling(request, quirks, left)
    dropped = ask_for_thinking(
        asked.reasoning_effort, request, quirks, may_think=history.turns.may_think, is_last=is_last
    )
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
        raise Unfit("n must be 1")
    if asked.logprobs:
        raise Unfit("logprobs can't be translated")
    if asked.modalities is not None and asked.modalities != ["text"]:
        raise Unfit("modalities must be text")
    if asked.stream_options is not None:
        TABLE.apply(asked.stream_options, left)


class _History:
    """Writes the conversation as turns of the Messages API."""

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
                    raise Unfit("a file is given by its id; send its data")
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
            raise Unfit(f"the arguments of the tool call {call.id[:80]!r} are not a JSON object")
        return self.turns.call(call.id, call.function.name, msgspec.Raw(arguments.encode()))


def _tool(tool: chat.ChatTool) -> messages.FunctionTool:
    spec = tool.function
    return messages.FunctionTool(
        name=tool_name(spec.name, LONGEST_NAME),
        description=spec.description,
        input_schema=object_schema(spec.parameters),
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
