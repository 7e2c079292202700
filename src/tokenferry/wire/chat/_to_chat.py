"""Translates requests of the Messages API to Chat Completions."""

from typing import Any, Final

from tokenferry.errors import Unfit
from tokenferry.wire._codec import Sent
from tokenferry.wire._envelope import opened
from tokenferry.wire._field_handling import FieldTable, changed, translated
from tokenferry.wire._ids import changed_names, tool_name
from tokenferry.wire._json import RequestReader, encode
from tokenferry.wire._quirks import Quirks
from tokenferry.wire._schema import is_closed
from tokenferry.wire.chat import _models as chat
from tokenferry.wire.messages import _models as messages
from tokenferry.wire.messages._conversation import Conversation
from tokenferry.wire.messages._handlings import HANDLINGS
from tokenferry.wire.messages._sampling import asked_effort, pass_sampling
from tokenferry.wire.messages._tools import OfferedFunction, offered_functions

FIELD_HANDLINGS: Final = changed(
    HANDLINGS,
    {
        messages.MessagesRequest: {
            "max_tokens": translated("becomes `max_tokens` or `max_completion_tokens`, at most the model's limit"),
            "system": translated("becomes one system message, without Claude Code's billing header"),
            "stop_sequences": translated("becomes `stop`; only the first four are sent"),
            "stream": translated("sent with `stream_options.include_usage`"),
            "top_k": translated("left out if the vendor does not take it"),
            "thinking": translated("becomes `reasoning_effort` if the model takes it; otherwise left out"),
        },
        messages.Turn: {
            "role": translated("adjacent user turns become one; `system` becomes user text in `<system-reminder>` tags")
        },
        messages.ImageContent: {
            "source": translated("becomes `image_url`; unfit by file id, and for a model that takes no images")
        },
        messages.UrlSource: {"url": translated("the URL of an image; that of a document is unfit")},
        messages.DocumentContent: {
            "source": translated("text becomes text, a PDF document becomes `file`; unfit if the model takes no PDF"),
        },
        messages.ThinkingContent: {
            "thinking": translated(
                "becomes `reasoning_content` for the model that wrote it, if that wants it back; otherwise left out"
            ),
        },
        messages.ToolResultContent: {"content": translated("becomes text; images follow in a user message")},
        messages.OutputConfig: {
            "effort": translated("becomes `reasoning_effort` if the model takes it; otherwise left out"),
            "format": translated("becomes `response_format`"),
        },
    },
)

TABLE: Final = FieldTable(FIELD_HANDLINGS)
_reader: Final = RequestReader(messages.MessagesRequest)
_MOST_STOPS: Final = 4
_CHOICES: Final = {"auto": "auto", "none": "none"}
_ERROR: Final = "[tool error] "
_FOLLOWS: Final = "(the images and files follow after the results)"


def to_chat(body: bytes, model: str, quirks: Quirks, domain: str) -> Sent:
    """Translate a request for an upstream whose name for the model is `model`. Raises `Unfit`."""
    left: set[str] = set()
    asked = _reader.read(body, left)
    TABLE.apply(asked, left)
    history = _History(quirks, domain, left)
    history.begin(asked.system)
    for turn in asked.messages:
        history.add(turn)
    history.check()
    tools = [_tool(one) for one in offered_functions(asked, TABLE, quirks, left)]
    limit = quirks.output_limit(asked.max_tokens)
    stops = asked.stop_sequences or []
    if len(stops) > _MOST_STOPS:
        left.add("stop_sequences")
    choice = asked.tool_choice if tools else None
    request = chat.ChatRequest(
        model=model,
        messages=history.messages,
        tools=tools or None,
        tool_choice=None if choice is None else _choice(choice, quirks),
        parallel_tool_calls=False if choice is not None and choice.disable_parallel_tool_use else None,
        stop=stops[:_MOST_STOPS] or None,
        reasoning_effort=_effort(asked, quirks, left),
        response_format=_format(asked.output_config, left),
    )
    if quirks.max_field == "max_tokens":
        request.max_tokens = limit
    else:
        request.max_completion_tokens = limit
    if asked.stream:
        request.stream = True
        request.stream_options = chat.StreamOptions(include_usage=True) if quirks.stream_usage else None
    pass_sampling(asked, request, quirks, left)
    if quirks.top_k:
        request.top_k = asked.top_k
    elif asked.top_k is not None:
        left.add("top_k")
    names = changed_names((tool.name for tool in asked.tools or ()), quirks.name_length)
    return Sent(
        body=encode(request),
        model=model,
        stream=bool(asked.stream),
        path="/chat/completions",
        left_out=tuple(sorted(left)),
        names=names,
    )


class _History(Conversation[chat.UserPart]):
    """Writes the conversation as Chat messages."""

    def __init__(self, quirks: Quirks, domain: str, left: set[str]) -> None:
        super().__init__(TABLE, quirks, left)
        self.messages: list[chat.ChatMessage] = []
        self._domain = domain
        self._later: list[chat.UserPart] = []
        """The parts that follow the results."""

    def begin(self, blocks: str | list[messages.TextContent] | None) -> None:
        """Write the system prompt."""
        if text := self.system_prompt(blocks):
            kind = chat.SystemMessage if self._quirks.system_role == "system" else chat.DeveloperMessage
            self.messages.append(kind(content=text))

    def _system(self, text: str) -> None:
        self._user([chat.TextPart(text=f"<system-reminder>\n{text}\n</system-reminder>")])

    def _user(self, parts: list[chat.UserPart]) -> None:
        self._later += parts
        if not self._later or self._pending:
            return
        parts, self._later = self._later, []
        last = self.messages[-1] if self.messages else None
        if isinstance(last, chat.UserMessage):  # some models refuse adjacent messages of one role
            before = [chat.TextPart(text=last.content)] if isinstance(last.content, str) else last.content
            last.content = [*before, *parts]
            return
        only = parts[0] if len(parts) == 1 else None
        self.messages.append(chat.UserMessage(content=only.text if isinstance(only, chat.TextPart) else parts))

    def _text_part(self, text: str) -> chat.TextPart:
        return chat.TextPart(text=text)

    def _image_part(self, url: str) -> chat.ImagePart:
        return chat.ImagePart(image_url=chat.ImageUrl(url=url))

    def _file_part(self, name: str, url: str) -> chat.FilePart:
        if not url.startswith("data:"):
            raise Unfit("a document is given by its URL; send its data")
        return chat.FilePart(file=chat.FileData(filename=name, file_data=url))

    def _result(self, block: messages.ToolResultContent) -> list[chat.UserPart]:
        known = self._pending.answer(block.tool_use_id)
        text, others = block.content or "", []
        if not isinstance(text, str):
            parts = [part for one in text for part in self._user_parts(one)]
            texts = [part.text for part in parts if isinstance(part, chat.TextPart)]
            others = [part for part in parts if not isinstance(part, chat.TextPart)]
            text = "\n".join([*texts, _FOLLOWS] if others else texts)
        if block.is_error:
            text = f"{_ERROR}{text}"
        self.messages.append(chat.ToolMessage(tool_call_id=known, content=text))
        return [chat.TextPart(text=f"From the result of the tool call {known}:"), *others] if others else []

    def _assistant(self, content: list[Any]) -> None:
        texts: list[str] = []
        calls: list[chat.ToolCall] = []
        thoughts: list[str] = []
        for block in content:
            if isinstance(block, messages.TextContent):
                texts.append(self._text(block))
            elif isinstance(block, messages.ToolUseContent):
                known, name, arguments = self._call(block)
                calls.append(chat.ToolCall(id=known, function=chat.FunctionCall(name=name, arguments=arguments)))
            elif not isinstance(block, messages.ThinkingContent | messages.RedactedThinkingContent):
                raise Unfit(f"an assistant's message holds {block.__struct_config__.tag}")
            elif (thought := self._thought(block)) is None:
                self._left.add("thinking")
            else:
                thoughts.append(thought)
        text = "".join(texts)
        if not (text or calls):
            return
        self.messages.append(
            chat.AssistantMessage(
                content=text or ("" if self._quirks.empty_content else None),
                tool_calls=calls or None,
                reasoning_content="".join(thoughts) or None,
            )
        )

    def _thought(self, block: messages.ThinkingContent | messages.RedactedThinkingContent) -> str | None:
        """Give the reasoning if the target model wrote it and wants it back; otherwise None."""
        if not self._quirks.returns_reasoning or not isinstance(block, messages.ThinkingContent):
            return None
        return block.thinking if opened(block.signature, self._domain) is not None else None


def _tool(function: OfferedFunction) -> chat.ChatTool:
    spec = chat.FunctionSpec(
        name=function.name,
        description=function.description,
        parameters=function.schema,
        strict=function.is_strict or None,
    )
    return chat.ChatTool(function=spec)


def _choice(choice: messages.ToolChoice, quirks: Quirks) -> Any:
    if choice.type == "tool":
        return chat.ChatToolChoice(function=chat.NamedFunction(name=tool_name(choice.name or "", quirks.name_length)))
    return _CHOICES.get(choice.type, quirks.required)


def _effort(asked: messages.MessagesRequest, quirks: Quirks, left: set[str]) -> str | None:
    if asked.thinking is not None:
        TABLE.apply(asked.thinking, left)
    return asked_effort(asked, quirks, left)


def _format(config: messages.OutputConfig | None, left: set[str]) -> chat.ResponseFormat | None:
    if config is None:
        return None
    TABLE.apply(config, left)
    if config.format is None:
        return None
    schema = config.format.schema
    named = chat.JsonSchema(name="output", schema=schema, strict=True if is_closed(schema) else None)
    return chat.ResponseFormat(type="json_schema", json_schema=named)
