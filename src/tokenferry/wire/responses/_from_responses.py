"""Requests of the Responses API as ones of the Messages API."""

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from msgspec import UNSET

from tokenferry.errors import Unfit
from tokenferry.wire._codec import ClientTool, Sent
from tokenferry.wire._envelope import opened
from tokenferry.wire._field_handling import FieldHandlings, FieldTable, kept, left_out, unfit
from tokenferry.wire._ids import tool_name
from tokenferry.wire._json import RequestReader, encode, is_object
from tokenferry.wire._quirks import Quirks
from tokenferry.wire._schema import closed
from tokenferry.wire.messages import _models as messages
from tokenferry.wire.messages._sampling import ask_for_thinking, limit_sampling
from tokenferry.wire.messages._turns import LONGEST_NAME, TurnWriter, document_block, image_block, text_blocks
from tokenferry.wire.responses import _models as responses
from tokenferry.wire.responses._reasoning import opened_thinking

_MARK: Final = left_out("a hint for prompt caches")
_STATELESS: Final = "no answer is stored: send the whole conversation as `input`"
_ID: Final = kept("always left out: a call has its `call_id`")
_STATUS: Final = kept("always left out")
_SERVER: Final = left_out("a hint for tools that the server runs")
_WITH_CALL: Final = kept("always left out: the call has it")
_CALL: Final = {
    "id": _ID,
    "status": _STATUS,
    "call_id": kept("each call has exactly one result, else unfit"),
    "name": kept(),
    "namespace": kept("before the name"),
    "caller": _SERVER,
    "async_": left_out(),
}
_OUTPUT: Final = {
    "id": _ID,
    "status": _STATUS,
    "call_id": kept("each call has exactly one result, else unfit"),
    "output": kept("`tool_result`, with images and documents"),
    "name": _WITH_CALL,
    "namespace": _WITH_CALL,
    "caller": _SERVER,
}

FIELD_HANDLINGS: Final[FieldHandlings] = {
    responses.ResponsesRequest: {
        "model": kept("the target's model"),
        "input": kept("items of one role in a row become one turn; of an unknown type: unfit"),
        "instructions": kept("`system`"),
        "tools": kept(),
        "tool_choice": kept("auto, any, a tool, none; allowed tools: the others are not sent"),
        "parallel_tool_calls": kept("`disable_parallel_tool_use`"),
        "max_output_tokens": kept("`max_tokens`; without, the model's own limit or 32,000"),
        "stream": kept(),
        "temperature": kept("at most 1; left out where the model takes none"),
        "top_p": kept("beside a temperature left out"),
        "reasoning": kept("`thinking` where the model takes it and the conversation allows it, else left out"),
        "text": kept("`output_config.format`; for `json_object` an instruction"),
        "include": kept("encrypted reasoning is always given; logprobs: unfit; others left out"),
        "store": unfit("no answer is stored: send `store: false`"),
        "previous_response_id": unfit(_STATELESS),
        "conversation": unfit(_STATELESS),
        "background": unfit("an answer is given at once"),
        "prompt": unfit("a template that the server keeps"),
        "top_logprobs": kept("unfit if any are asked for"),
        "stream_options": left_out(),
        "truncation": left_out("the whole conversation is sent"),
        "context_management": left_out("the whole conversation is sent"),
        "max_tool_calls": left_out("of tools that the server runs"),
        "image": left_out(),
        "access_programs": left_out(),
        "moderation": left_out(),
        "metadata": left_out(),
        "client_metadata": left_out("of Codex; it may name a person's machine"),
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
        "role": kept(
            "leading `system` and `developer`: `system`; later ones: a user's text in `<system-reminder>` tags"
        ),
        "content": kept("without empty texts"),
        "phase": left_out(),
    },
    responses.ReasoningItem: {
        "id": _ID,
        "status": _STATUS,
        "summary": kept("`thinking`"),
        "content": kept("always left out: the summary has it"),
        "encrypted_content": kept(
            "`signature`, of reasoning by the model that is asked; of any other the item is left out"
        ),
    },
    responses.SummaryText: {"text": kept()},
    responses.FunctionCallItem: {**_CALL, "arguments": kept("`input`; what is no JSON object: unfit")},
    responses.CustomToolCallItem: {**_CALL, "input": kept("`input` with one text of that name")},
    responses.FunctionCallOutputItem: _OUTPUT,
    responses.CustomToolCallOutputItem: _OUTPUT,
    responses.AdditionalToolsItem: {"id": _ID, "status": _STATUS, "tools": kept("with the others"), "role": _STATUS},
    responses.ItemReference: {"id": kept("always unfit: no answer is stored")},
    responses.InputText: {"text": kept(), "prompt_cache_breakpoint": _MARK},
    responses.InputImage: {
        "image_url": kept("data and http URLs"),
        "file_id": kept("always unfit: the file is the vendor's"),
        "detail": left_out(),
        "prompt_cache_breakpoint": _MARK,
    },
    responses.InputFile: {
        "filename": kept("`title`"),
        "file_data": kept("PDF documents as a data URL; others: unfit"),
        "file_url": kept("a document's"),
        "file_id": kept("always unfit: the file is the vendor's"),
        "detail": left_out(),
        "prompt_cache_breakpoint": _MARK,
    },
    responses.OutputText: {"text": kept(), "annotations": left_out(), "logprobs": left_out()},
    responses.OutputRefusal: {"refusal": kept("as text")},
    responses.ResponsesTool: {
        "type": kept("functions, custom tools, namespaces; others: unfit, or dropped where the mapping says so"),
        "name": kept("after its namespace's; shortened where it is too long, and given back whole"),
        "description": kept("after its namespace's"),
        "parameters": kept("as they are"),
        "strict": kept("if the client says so"),
        "format": kept("a custom tool's grammar, in words: its input is one text"),
        "tools": kept("of a namespace"),
        "async_": unfit("an answer is given at once"),
        "allowed_callers": _SERVER,
        "defer_loading": left_out("every tool is sent"),
        "output_schema": left_out(),
    },
    responses.CustomToolFormat: {"type": kept(), "syntax": kept(), "definition": kept()},
    responses.ResponsesToolChoice: {"type": kept(), "name": kept(), "mode": kept(), "tools": kept()},
    responses.AllowedTool: {"type": kept(), "name": kept()},
    responses.ReasoningConfig: {
        "effort": kept("`thinking`, `output_config.effort`"),
        "summary": kept("always given"),
        "generate_summary": left_out(),
        "context": left_out(),
        "mode": left_out(),
    },
    responses.TextConfig: {"format": kept(), "verbosity": left_out()},
    responses.TextFormat: {
        "type": kept(),
        "name": kept("always left out"),
        "schema": kept("every object is closed"),
        "strict": kept("always so"),
        "description": kept("always left out"),
    },
}

TABLE: Final = FieldTable(FIELD_HANDLINGS)
_LIMIT: Final = 32_000
_CHOICES: Final[dict[str, Any]] = {"auto": "auto", "required": "any", "none": "none"}
_EMPTY_SCHEMA: Final = msgspec.Raw(b'{"type":"object","properties":{}}')
_TEXT_SCHEMA: Final = msgspec.Raw(
    b'{"type":"object","properties":{"input":{"type":"string"}},"required":["input"],"additionalProperties":false}'
)
_JSON_ONLY: Final = "Answer with one JSON object and with nothing else."
_REASONING: Final = "reasoning.encrypted_content"
_NOT_SENT: Final = "tool_choice demands a call of a tool that is not sent"


def _with_types(document: Any) -> None:
    """Say of each message that it is one: their type may be missing, and so may a reference's."""
    items = document.get("input") if isinstance(document, dict) else None
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict) and "type" not in item:
            item["type"] = "message" if "role" in item else "item_reference"


_reader: Final = RequestReader(responses.ResponsesRequest, complete=_with_types)


def from_responses(body: bytes, model: str, quirks: Quirks, domain: str, at: int, *, is_last: bool) -> Sent:
    """The request for an upstream that calls the model so. Raises `Unfit`.

    Claude's own rules hold if this codec `is_last`, so that Claude gets what it writes.
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
    limit = asked.max_output_tokens or quirks.max_output_tokens or _LIMIT
    request = messages.MessagesRequest(
        model=model,
        messages=turns,
        max_tokens=limit if quirks.max_output_tokens is None else min(limit, quirks.max_output_tokens),
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
        may_think = history.turns.may_think or not is_last
        dropped = ask_for_thinking(asked.reasoning.effort, request, quirks, may_think=may_think, is_last=is_last)
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
        raise Unfit("logprobs have no counterpart there")
    if included:
        left.add("include")


class _History:
    """The conversation as it is written."""

    def __init__(self, domain: str, left: set[str]) -> None:
        self.turns = TurnWriter()
        self._domain = domain
        self._left = left
        self._thoughts: list[messages.Content] = []
        """What goes before the next thing that the model said, and is nothing without it."""

    def add(self, item: responses.InputItem) -> None:
        match item:  # the most frequent first
            case responses.FunctionCallItem():
                arguments = item.arguments.strip() or "{}"
                if not is_object(arguments):
                    raise Unfit(f"the arguments of the tool call {item.call_id[:80]!r} are no JSON object")
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
                raise Unfit("an item by its id has no counterpart there: no answer is stored, so send the item itself")

    def _message(self, role: str, blocks: list[messages.Content]) -> None:
        if role == "user":
            self._thoughts.clear()
            self.turns.add("user", blocks)
            return
        for block in blocks:
            if not isinstance(block, messages.TextContent):
                raise Unfit(f"a message that is no user's holds {block.__struct_config__.tag}")
        if role == "assistant":
            self.turns.check_turn()
            self._say(blocks)
        else:
            self.turns.system("\n".join(block.text for block in blocks if isinstance(block, messages.TextContent)))

    def _call(self, item: responses.FunctionCallItem | responses.CustomToolCallItem, arguments: bytes) -> None:
        self.turns.check_turn()
        self._say([self.turns.call(item.call_id, _flat(item.namespace, item.name), msgspec.Raw(arguments))])

    def _say(self, blocks: list[messages.Content]) -> None:
        """Add to what the model said."""
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
        raise Unfit("an image or a file by its id")

    def _reason(self, item: responses.ReasoningItem) -> None:
        payload = opened(item.encrypted_content, self._domain)
        thought = opened_thinking(payload, "\n\n".join(part.text for part in item.summary))
        if thought is None:
            self._left.add("reasoning item")
        else:
            self._thoughts.append(thought)


class _Tools:
    """The tools as they are sent."""

    def __init__(self, quirks: Quirks, left: set[str]) -> None:
        self.found: dict[str, messages.FunctionTool] = {}
        self.changed: dict[str, ClientTool] = {}
        self._quirks = quirks
        self._left = left

    def add(
        self, tools: Iterable[responses.ResponsesTool], namespace: str | None = None, about: str | None = None
    ) -> None:
        """Add tools, of a namespace if one is named, which `about` describes. Raises `Unfit`."""
        for tool in tools:
            if tool.type in {"function", "custom"}:
                self._add(tool, namespace, about)
            elif tool.type == "namespace" and namespace is None:
                self.add(tool.tools or (), tool.name or "", tool.description)
            elif self._quirks.drop and tool.type.startswith(self._quirks.drop):
                self._left.add(tool.type[:64])
            else:
                raise Unfit(f"the server's tool {tool.type[:80]!r}")

    def _add(self, tool: responses.ResponsesTool, namespace: str | None, about: str | None) -> None:
        TABLE.apply(tool, self._left)
        client = ClientTool(tool.name or "", namespace, tool.type == "custom")
        name = tool_name(_flat(namespace, client.name), LONGEST_NAME)
        if name in self.found and self.changed.get(name, ClientTool(name)) != client:
            raise Unfit(f"two tools have the name {name!r}")
        if client != ClientTool(name):
            self.changed[name] = client
        words = [about, tool.description, _grammar(tool.format)]
        schema = tool.parameters
        if schema is UNSET or bytes(schema) == b"null":
            schema = _EMPTY_SCHEMA
        self.found[name] = messages.FunctionTool(
            name=name,
            description="\n\n".join(filter(None, words)) or None,
            input_schema=_TEXT_SCHEMA if client.is_custom else schema,
            strict=True if tool.strict and not client.is_custom else None,
        )

    def keep(self, names: set[str]) -> None:
        """Send no tools but these. Raises `Unfit` where none is left."""
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
            if name not in tools.found:
                raise Unfit(_NOT_SENT)
            return messages.ToolChoice(type="tool", name=name, disable_parallel_tool_use=alone)
        if choice.type != "allowed_tools":
            raise Unfit(f"the server's tool {choice.type[:80]!r}")
        tools.keep({tool_name(one.name or "", LONGEST_NAME) for one in choice.tools or ()})
        choice = choice.mode
    if choice is None and alone is None:
        return None
    kind = _CHOICES[choice or "auto"]
    if kind == "any" and not tools.found:
        raise Unfit(_NOT_SENT)
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
