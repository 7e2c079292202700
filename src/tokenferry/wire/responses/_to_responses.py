"""Translates requests of the Messages API to the Responses API."""

from typing import Any, Final

import msgspec

from tokenferry.errors import Unfit
from tokenferry.wire._codec import Sent
from tokenferry.wire._envelope import opened
from tokenferry.wire._field_handling import FieldTable, changed, translated, unfit
from tokenferry.wire._ids import changed_names, tool_name
from tokenferry.wire._json import RequestReader, encode
from tokenferry.wire._quirks import Quirks
from tokenferry.wire._schema import is_closed
from tokenferry.wire.messages import _models as messages
from tokenferry.wire.messages._conversation import Conversation
from tokenferry.wire.messages._handlings import HANDLINGS
from tokenferry.wire.messages._sampling import asked_effort, pass_sampling
from tokenferry.wire.messages._tools import OfferedFunction, offered_functions
from tokenferry.wire.responses import _models as responses
from tokenferry.wire.responses._reasoning import opened_item

FIELD_HANDLINGS: Final = changed(
    HANDLINGS,
    {
        messages.MessagesRequest: {
            "messages": translated("becomes `input`; a request that ends with an assistant turn is unfit"),
            "max_tokens": translated("becomes `max_output_tokens`, at least 16 and at most the model's limit"),
            "system": translated("becomes `instructions`, without Claude Code's billing header"),
            "stop_sequences": unfit("the Responses API has no stop sequences", by_codec=True),
            "thinking": translated("becomes `reasoning` if the model takes efforts; otherwise left out"),
        },
        messages.Turn: {"role": translated("a `system` turn becomes a message with that role")},
        messages.ImageContent: {
            "source": translated("becomes `input_image`; unfit by file id, and for a model that takes no images"),
        },
        messages.UrlSource: {"url": translated("becomes `image_url` or `file_url`")},
        messages.DocumentContent: {
            "source": translated(
                "text becomes text, a PDF document becomes `input_file`; unfit if the model takes no PDF"
            ),
        },
        messages.ThinkingContent: {
            "thinking": translated(
                "becomes a reasoning item's summary for the model that wrote it; otherwise left out"
            ),
            "signature": translated("identifies the model that wrote the thinking, and holds its `encrypted_content`"),
        },
        messages.ToolResultContent: {"content": translated("becomes a string, or a list with images and documents")},
        messages.FunctionTool: {
            "strict": translated("`false` unless every object of the schema has `additionalProperties: false`")
        },
        messages.OutputConfig: {
            "effort": translated("becomes `reasoning.effort` if the model takes it; otherwise left out"),
            "format": translated("becomes `text.format`"),
        },
    },
)

TABLE: Final = FieldTable(FIELD_HANDLINGS)
_reader: Final = RequestReader(messages.MessagesRequest)
_LEAST_OUTPUT: Final = 16
_CHOICES: Final[dict[str, Any]] = {"auto": "auto", "none": "none", "any": "required"}
_ERROR: Final = "[tool error] "
_NO: Final = msgspec.Raw(b"false")
_AUTO: Final = msgspec.Raw(b'"auto"')


def to_responses(body: bytes, model: str, quirks: Quirks, domain: str) -> Sent:
    """Translate a request for an upstream whose name for the model is `model`. Raises `Unfit`."""
    left: set[str] = set()
    asked = _reader.read(body, left)
    TABLE.apply(asked, left)
    if asked.stop_sequences:
        raise Unfit("the Responses API has no stop_sequences")
    history = _History(quirks, domain, left)
    for turn in asked.messages:
        history.add(turn)
    history.check()
    if asked.messages and asked.messages[-1].role == "assistant":
        raise Unfit("the last turn is the assistant's, which this upstream can't continue")
    tools = [_tool(one) for one in offered_functions(asked, TABLE, quirks, left)]
    choice = asked.tool_choice if tools else None
    reasoning = _reasoning(asked, quirks, left)
    request = responses.ResponsesRequest(
        model=model,
        input=history.items,
        instructions=history.system_prompt(asked.system) or None,
        tools=tools or None,
        tool_choice=None if choice is None else _choice(choice, quirks),
        parallel_tool_calls=False if choice is not None and choice.disable_parallel_tool_use else None,
        max_output_tokens=max(quirks.output_limit(asked.max_tokens), _LEAST_OUTPUT),
        stream=asked.stream or None,
        reasoning=reasoning,
        text=_text(asked.output_config, left),
        include=None if reasoning is None else ["reasoning.encrypted_content"],
        store=_NO,
    )
    pass_sampling(asked, request, quirks, left)
    if asked.top_k is not None:
        left.add("top_k")
    names = changed_names((tool.name for tool in asked.tools or ()), quirks.name_length)
    return Sent(
        body=encode(request),
        model=model,
        stream=bool(asked.stream),
        path="/responses",
        left_out=tuple(sorted(left)),
        names=names,
    )


class _History(Conversation[responses.ItemPart]):
    """Writes the conversation as items."""

    def __init__(self, quirks: Quirks, domain: str, left: set[str]) -> None:
        super().__init__(TABLE, quirks, left)
        self.items: list[responses.InputItem] = []
        self._domain = domain

    def _system(self, text: str) -> None:
        self.items.append(responses.MessageItem(role=self._quirks.system_role, content=text))

    def _user(self, parts: list[responses.ItemPart]) -> None:
        if parts:
            only = parts[0] if len(parts) == 1 else None
            content = only.text if isinstance(only, responses.InputText) else parts
            self.items.append(responses.MessageItem(role="user", content=content))

    def _text_part(self, text: str) -> responses.InputText:
        return responses.InputText(text=text)

    def _image_part(self, url: str) -> responses.InputImage:
        return responses.InputImage(image_url=url, detail=_AUTO)  # the API demands it

    def _file_part(self, name: str, url: str) -> responses.InputFile:
        if url.startswith("data:"):
            return responses.InputFile(filename=name, file_data=url)
        return responses.InputFile(file_url=url)

    def _result(self, block: messages.ToolResultContent) -> list[responses.ItemPart]:
        known = self._pending.answer(block.tool_use_id)
        output = block.content or ""
        if isinstance(output, str):
            written: str | list[responses.ItemPart] = f"{_ERROR}{output}" if block.is_error else output
        else:
            written = [responses.InputText(text=_ERROR)] if block.is_error else []
            written += [part for one in output for part in self._user_parts(one)]
        self.items.append(responses.FunctionCallOutputItem(call_id=known, output=written))
        return []

    def _assistant(self, content: list[Any]) -> None:
        thoughts: list[responses.InputItem] = []
        texts: list[str] = []
        for block in content:
            if isinstance(block, messages.TextContent):
                texts.append(self._text(block))
            elif isinstance(block, messages.ToolUseContent):
                if texts:
                    self._write_texts(thoughts, texts)
                known, name, arguments = self._call(block)
                if thoughts:
                    self.items += thoughts
                    thoughts.clear()
                self.items.append(responses.FunctionCallItem(call_id=known, name=name, arguments=arguments))
            elif not isinstance(block, messages.ThinkingContent | messages.RedactedThinkingContent):
                raise Unfit(f"an assistant's message holds {block.__struct_config__.tag}")
            elif (thought := self._thought(block)) is None:
                self._left.add("thinking")
            else:
                self._write_texts(thoughts, texts)
                thoughts.append(thought)
        if texts:
            self._write_texts(thoughts, texts)

    def _write_texts(self, thoughts: list[responses.InputItem], texts: list[str]) -> None:
        """Write the texts after the reasoning that led to them: the API refuses reasoning that nothing follows."""
        if text := "".join(texts):
            self.items += [*thoughts, responses.MessageItem(role="assistant", content=text)]
            thoughts.clear()
            texts.clear()

    def _thought(
        self, block: messages.ThinkingContent | messages.RedactedThinkingContent
    ) -> responses.ReasoningItem | None:
        """Give the reasoning if the target model wrote it; otherwise None."""
        if not isinstance(block, messages.ThinkingContent):
            return None
        return opened_item(opened(block.signature, self._domain), block.thinking)


def _tool(function: OfferedFunction) -> responses.ResponsesTool:
    # The default of `strict` is true.
    return responses.ResponsesTool(
        type="function",
        name=function.name,
        description=function.description,
        parameters=function.schema,
        strict=function.is_strict,
    )


def _choice(choice: messages.ToolChoice, quirks: Quirks) -> Any:
    if choice.type == "tool":
        return responses.ResponsesToolChoice(type="function", name=tool_name(choice.name or "", quirks.name_length))
    return _CHOICES[choice.type]


def _reasoning(asked: messages.MessagesRequest, quirks: Quirks, left: set[str]) -> responses.ReasoningConfig | None:
    thinking = asked.thinking
    if thinking is not None:
        TABLE.apply(thinking, left)
    effort = asked_effort(asked, quirks, left)
    if not quirks.efforts or (effort is None and (thinking is None or thinking.type == "disabled")):
        return None
    return responses.ReasoningConfig(effort=effort, summary="auto")


def _text(config: messages.OutputConfig | None, left: set[str]) -> responses.TextConfig | None:
    if config is None:
        return None
    TABLE.apply(config, left)
    if config.format is None:
        return None
    schema = config.format.schema
    written = responses.TextFormat(type="json_schema", name="output", schema=schema, strict=is_closed(schema))
    return responses.TextConfig(format=written)
