"""Translates requests of the Responses API to the Messages API."""

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from msgspec import UNSET

from tokenferry.errors import Unfit
from tokenferry.wire._codec import ClientTool, Sent
from tokenferry.wire._envelope import opened
from tokenferry.wire._field_handling import FieldHandlings, FieldTable, ignored, left_out, translated, unfit
from tokenferry.wire._ids import tool_name
from tokenferry.wire._json import RequestReader, encode, is_object
from tokenferry.wire._quirks import Quirks
from tokenferry.wire._schema import closed, object_schema
from tokenferry.wire.messages import _models as messages
from tokenferry.wire.messages._sampling import ask_for_thinking, limit_sampling
from tokenferry.wire.messages._tools import check_choice
from tokenferry.wire.messages._turns import LONGEST_NAME, TurnWriter, document_block, image_block, text_blocks
from tokenferry.wire.responses import _models as responses
from tokenferry.wire.responses._reasoning import opened_thinking

_MARK: Final = left_out("it is a hint for prompt caches")
_STATELESS: Final = "answers are not stored; send the whole conversation as `input`"
_ID: Final = ignored("`call_id` identifies a call")
_STATUS: Final = ignored()
_SERVER: Final = left_out("it is a hint for tools that the server runs")
_WITH_CALL: Final = ignored("the call has it")
_CALL: Final = {
    "id": _ID,
    "status": _STATUS,
    "call_id": translated("unfit unless each call has exactly one result"),
    "name": translated(),
    "namespace": translated("precedes the name"),
    "caller": _SERVER,
    "async_": left_out(),
}
_OUTPUT: Final = {
    "id": _ID,
    "status": _STATUS,
    "call_id": translated("unfit unless each call has exactly one result"),
    "output": translated("becomes `tool_result`, with images and documents"),
    "name": _WITH_CALL,
    "namespace": _WITH_CALL,
    "caller": _SERVER,
}

FIELD_HANDLINGS: Final[FieldHandlings] = {
    responses.ResponsesRequest: {
        "model": translated("becomes the target's model"),
        "input": translated("adjacent items of one role become one turn; an unknown type is unfit"),
        "instructions": translated("becomes `system`"),
        "tools": translated(),
        "tool_choice": translated("becomes auto, any, a tool or none; with allowed tools, only those are sent"),
        "parallel_tool_calls": translated("becomes `disable_parallel_tool_use`"),
        "max_output_tokens": translated("becomes `max_tokens`; the default is the model's limit or 32,000"),
        "stream": translated(),
        "temperature": translated("at most 1; left out if the model takes no temperature"),
        "top_p": translated("left out if there is a temperature"),
        "reasoning": translated("becomes `thinking` if the model and the conversation allow it; otherwise left out"),
        "text": translated("becomes `output_config.format`; `json_object` becomes an instruction in the system prompt"),
        "include": translated("encrypted reasoning is always returned; logprobs are unfit; anything else is left out"),
        "store": unfit("answers are not stored; send `store: false`"),
        "previous_response_id": unfit(_STATELESS),
        "conversation": unfit(_STATELESS),
        "background": unfit("requests don't run in the background"),
        "prompt": unfit("the server stores this template"),
        "top_logprobs": translated("more than 0 is unfit"),
        "stream_options": left_out(),
        "truncation": left_out("the whole conversation is sent"),
        "context_management": left_out("the whole conversation is sent"),
        "max_tool_calls": left_out("it limits tools that the server runs"),
        "image": left_out(),
        "access_programs": left_out(),
        "moderation": left_out(),
        "metadata": left_out(),
        "client_metadata": left_out("Codex sends it; it may name a person's machine"),
        "user": left_out("it may name a person"),
        "safety_identifier": left_out("it may name a person"),
        "prompt_cache_key": _MARK,
        "prompt_cache_options": _MARK,
        "prompt_cache_retention": _MARK,
        "service_tier": left_out(),
    },
    responses.MessageItem: {
        "id": _ID,
        "status": _STATUS,
        "role": translated(
            "leading `system` and `developer` become `system`, later ones user text in `<system-reminder>` tags"
        ),
        "content": translated("without empty texts"),
        "phase": left_out(),
    },
    responses.ReasoningItem: {
        "id": _ID,
        "status": _STATUS,
        "summary": translated("becomes `thinking`"),
        "content": ignored("the summary is sent"),
        "encrypted_content": translated(
            "becomes `signature` if the reasoning is the target model's own; otherwise the item is left out"
        ),
    },
    responses.SummaryText: {"text": translated()},
    responses.FunctionCallItem: {**_CALL, "arguments": translated("becomes `input`; unfit unless it is a JSON object")},
    responses.CustomToolCallItem: {**_CALL, "input": translated("becomes an `input` object with one field, `input`")},
    responses.FunctionCallOutputItem: _OUTPUT,
    responses.CustomToolCallOutputItem: _OUTPUT,
    responses.AdditionalToolsItem: {
        "id": _ID,
        "status": _STATUS,
        "tools": translated("joined with the request's tools"),
        "role": _STATUS,
    },
    responses.ItemReference: {"id": unfit("answers are not stored", by_codec=True)},
    responses.InputText: {"text": translated(), "prompt_cache_breakpoint": _MARK},
    responses.InputImage: {
        "image_url": translated("data and http URLs"),
        "file_id": unfit("the file is stored at another vendor", by_codec=True),
        "detail": left_out(),
        "prompt_cache_breakpoint": _MARK,
    },
    responses.InputFile: {
        "filename": translated("becomes `title`"),
        "file_data": translated("PDF documents as a data URL; any other file is unfit"),
        "file_url": translated("the URL of a document"),
        "file_id": unfit("the file is stored at another vendor", by_codec=True),
        "detail": left_out(),
        "prompt_cache_breakpoint": _MARK,
    },
    responses.OutputText: {"text": translated(), "annotations": left_out(), "logprobs": left_out()},
    responses.OutputRefusal: {"refusal": translated("becomes text")},
    responses.ResponsesTool: {
        "type": translated(
            "functions, custom tools and namespaces; any other is unfit, or left out if the mapping's `drop` names it"
        ),
        "name": translated("follows the name of its namespace; a long name is shortened, and restored in the answer"),
        "description": translated("follows the description of its namespace"),
        "parameters": translated("unchanged"),
        "strict": translated("only if true"),
        "format": translated("a custom tool's grammar becomes part of its description; its input is one string"),
        "tools": translated("the tools of a namespace"),
        "async_": unfit("requests don't run in the background"),
        "allowed_callers": _SERVER,
        "defer_loading": left_out("every tool is sent"),
        "output_schema": left_out(),
    },
    responses.CustomToolFormat: {"type": translated(), "syntax": translated(), "definition": translated()},
    responses.ResponsesToolChoice: {
        "type": translated(),
        "name": translated(),
        "mode": translated(),
        "tools": translated(),
    },
    responses.AllowedTool: {"type": translated(), "name": translated()},
    responses.ReasoningConfig: {
        "effort": translated("becomes `thinking` and `output_config.effort`"),
        "summary": ignored("a summary is always returned"),
        "generate_summary": left_out(),
        "context": left_out(),
        "mode": left_out(),
    },
    responses.TextConfig: {"format": translated(), "verbosity": left_out()},
    responses.TextFormat: {
        "type": translated(),
        "name": ignored(),
        "schema": translated("every object but a map gets `additionalProperties: false`"),
        "strict": ignored("the schema is always enforced"),
        "description": ignored(),
    },
}

TABLE: Final = FieldTable(FIELD_HANDLINGS)
_CHOICES: Final[dict[str, Any]] = {"auto": "auto", "required": "any", "none": "none"}
_TEXT_SCHEMA: Final = msgspec.Raw(
    b'{"type":"object","properties":{"input":{"type":"string"}},"required":["input"],"additionalProperties":false}'
)
_JSON_ONLY: Final = "Answer with one JSON object and with nothing else."
_REASONING: Final = "reasoning.encrypted_content"


def _with_types(document: Any) -> None:
    """Add the type of messages and references, which clients may leave out."""
    items = document.get("input") if isinstance(document, dict) else None
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict) and "type" not in item:
            item["type"] = "message" if "role" in item else "item_reference"


_reader: Final = RequestReader(responses.ResponsesRequest, complete=_with_types)


def from_responses(body: bytes, model: str, quirks: Quirks, domain: str, at: int, *, is_last: bool) -> Sent:
    """Translate a request for an upstream whose name for the model is `model`. Raises `Unfit`.

    `at` is the time of the request in seconds since 1970 UTC. `is_last` says that no other codec follows: the request
    goes to Claude and must obey Claude's limits.
    """
    left: set[str] = set()
    asked = _reader.read(body, left)
    _check(asked, left)
    history = _History(domain, left)
    tools = _Tools(quirks, left)
    if asked.instructions:
        history.turns.system(asked.instructions)
    items = [responses.MessageItem(role="user", content=asked.input)] if isinstance(asked.input, str) else asked.input
    tools.add(asked.tools or ())
    for item in items:
        TABLE.apply(item, left)
        if isinstance(item, responses.AdditionalToolsItem):
            tools.add(item.tools)
        else:
            history.add(item)
    config = _output(asked.text, history.turns, left)
    system, turns = history.turns.end()
    choice = _choice(asked, tools)
    check_choice(choice, tools.found)
    request = messages.MessagesRequest(
        model=model,
        messages=turns,
        max_tokens=quirks.output_limit(asked.max_output_tokens or None),
        system=system or None,
        tools=list(tools.found.values()) or None,
        tool_choice=choice if tools.found else None,
        stream=asked.stream or None,
        temperature=asked.temperature,
        top_p=asked.top_p,
        output_config=config,
    )
    if is_last:
        limit_sampling(request, quirks, left)
    if asked.reasoning is not None:
        TABLE.apply(asked.reasoning, left)
        dropped = ask_for_thinking(
            asked.reasoning.effort, request, quirks, may_think=history.turns.may_think, is_last=is_last
        )
        left.update("reasoning" if name == "effort" else name for name in dropped)
    return Sent(
        body=encode(request),
        model=model,
        stream=bool(asked.stream),
        path="/v1/messages",
        left_out=tuple(sorted(left)),
        tools=tools.changed,
        at=at,
    )


def _check(asked: responses.ResponsesRequest, left: set[str]) -> None:
    TABLE.apply(asked, left)
    included = set(asked.include or ()) - {_REASONING}
    if asked.top_logprobs or any("logprobs" in name for name in included):
        raise Unfit("logprobs can't be translated")
    if included:
        left.add("include")


class _History:
    """Writes the conversation as turns of the Messages API."""

    def __init__(self, domain: str, left: set[str]) -> None:
        self.turns = TurnWriter()
        self._domain = domain
        self._left = left
        self._thoughts: list[messages.Content] = []
        """Reasoning that precedes the model's next text or call, and is dropped if there is none."""

    def add(self, item: responses.InputItem) -> None:
        match item:  # the most frequent first
            case responses.FunctionCallItem():
                arguments = item.arguments.strip() or "{}"
                if not is_object(arguments):
                    raise Unfit(f"the arguments of the tool call {item.call_id[:80]!r} are not a JSON object")
                self._call(item, arguments.encode())
            case responses.FunctionCallOutputItem() | responses.CustomToolCallOutputItem():
                output = item.output
                self.turns.result(item.call_id, output if isinstance(output, str) else self._blocks(output) or "")
            case responses.MessageItem():
                self._message(item.role, self._blocks(item.content))
            case responses.ReasoningItem():
                self._reason(item)
            case responses.CustomToolCallItem():
                self._call(item, encode({"input": item.input}))
            case responses.ItemReference():
                raise Unfit("an item is given by its id, but answers are not stored; send the item itself")

    def _message(self, role: str, blocks: list[messages.Content]) -> None:
        if role == "user":
            self._thoughts.clear()
            self.turns.add("user", blocks)
            return
        for block in blocks:
            if not isinstance(block, messages.TextContent):
                raise Unfit(f"a message of the role {role} holds {block.__struct_config__.tag}")
        if role == "assistant":
            self.turns.check_turn()
            self._say(blocks)
        else:
            self.turns.system("\n".join(block.text for block in blocks if isinstance(block, messages.TextContent)))

    def _call(self, item: responses.FunctionCallItem | responses.CustomToolCallItem, arguments: bytes) -> None:
        self.turns.check_turn()
        self._say([self.turns.call(item.call_id, _flat(item.namespace, item.name), msgspec.Raw(arguments))])

    def _say(self, blocks: list[messages.Content]) -> None:
        """Add blocks to the model's turn."""
        if blocks and self._thoughts:
            blocks = self._thoughts + blocks
            self._thoughts = []
        self.turns.add("assistant", blocks)

    def _blocks(self, content: str | list[responses.ItemPart]) -> list[messages.Content]:
        if isinstance(content, str):
            return text_blocks([content])
        return [block for part in content for block in self._block(part)]

    def _block(self, part: responses.ItemPart) -> list[messages.Content]:
        TABLE.apply(part, self._left)
        match part:
            case responses.InputText(text=text) | responses.OutputText(text=text):
                return text_blocks([text])
            case responses.OutputRefusal(refusal=text):
                return text_blocks([text])
            case responses.InputImage(image_url=str(url)):
                return [image_block(url)]
            case responses.InputFile(file_data=str(url)) | responses.InputFile(file_url=str(url)):
                return [document_block(part.filename, url)]
        raise Unfit("an image or a file is given by its id; send its data")

    def _reason(self, item: responses.ReasoningItem) -> None:
        payload = opened(item.encrypted_content, self._domain)
        thought = opened_thinking(payload, "\n\n".join(part.text for part in item.summary))
        if thought is None:
            self._left.add("reasoning item")
        else:
            self._thoughts.append(thought)


class _Tools:
    """Collects the tools to be sent."""

    def __init__(self, quirks: Quirks, left: set[str]) -> None:
        self.found: dict[str, messages.FunctionTool] = {}
        self.changed: dict[str, ClientTool] = {}
        self._quirks = quirks
        self._left = left

    def add(
        self, tools: Iterable[responses.ResponsesTool], namespace: str | None = None, about: str | None = None
    ) -> None:
        """Add tools. `about` describes their namespace, if they have one. Raises `Unfit`."""
        for tool in tools:
            if tool.type in {"function", "custom"}:
                self._add(tool, namespace, about)
            elif tool.type == "namespace" and namespace is None:
                self.add(tool.tools or (), tool.name or "", tool.description)
            elif self._quirks.drop and tool.type.startswith(self._quirks.drop):
                self._left.add(tool.type[:64])
            else:
                raise Unfit(
                    f"the server runs the tool {tool.type[:80]!r}; list it in the mapping's drop to leave it out"
                )

    def _add(self, tool: responses.ResponsesTool, namespace: str | None, about: str | None) -> None:
        TABLE.apply(tool, self._left)
        client = ClientTool(tool.name or "", namespace, tool.type == "custom")
        name = tool_name(_flat(namespace, client.name), LONGEST_NAME)
        if name in self.found and self.changed.get(name, ClientTool(name)) != client:
            raise Unfit(f"two tools have the name {name!r}")
        if client != ClientTool(name):
            self.changed[name] = client
        words = [about, tool.description, _grammar(tool.format)]
        self.found[name] = messages.FunctionTool(
            name=name,
            description="\n\n".join(filter(None, words)) or None,
            input_schema=_TEXT_SCHEMA if client.is_custom else object_schema(tool.parameters),
            strict=True if tool.strict and not client.is_custom else None,
        )

    def restrict(self, names: set[str]) -> None:
        """Send only the tools with these names. Raises `Unfit` if there are none."""
        self.found = {name: tool for name, tool in self.found.items() if name in names}
        if not self.found:
            raise Unfit("tool_choice allows none of the tools")


def _flat(namespace: str | None, name: str) -> str:
    return f"{namespace}__{name}" if namespace else name


def _grammar(format_: responses.CustomToolFormat | None) -> str | None:
    if format_ is None or format_.type == "text":
        return None
    return f"The input follows this grammar ({format_.syntax}):\n{format_.definition}"


def _choice(asked: responses.ResponsesRequest, tools: _Tools) -> messages.ToolChoice | None:
    choice = asked.tool_choice
    alone = True if asked.parallel_tool_calls is False else None
    if isinstance(choice, responses.ResponsesToolChoice):
        if choice.type in {"function", "custom"}:
            name = tool_name(choice.name or "", LONGEST_NAME)
            return messages.ToolChoice(type="tool", name=name, disable_parallel_tool_use=alone)
        if choice.type != "allowed_tools":
            raise Unfit(f"tool_choice demands the tool {choice.type[:80]!r}, which the server runs")
        tools.restrict({tool_name(one.name or "", LONGEST_NAME) for one in choice.tools or ()})
        choice = choice.mode
    if choice is None and alone is None:
        return None
    kind = _CHOICES[choice or "auto"]
    return messages.ToolChoice(type=kind, disable_parallel_tool_use=None if kind == "none" else alone)


def _output(text: responses.TextConfig | None, turns: TurnWriter, left: set[str]) -> messages.OutputConfig | None:
    if text is None:
        return None
    TABLE.apply(text, left)
    asked = text.format
    if asked is None or asked.type == "text":
        return None
    if asked.type == "json_object":
        turns.instruct(_JSON_ONLY)
        return None
    if asked.schema is UNSET:
        raise Unfit("text.format names no schema")
    return messages.OutputConfig(format=messages.OutputFormat(type="json_schema", schema=closed(asked.schema)))
