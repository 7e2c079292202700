"""Reads the turns of a Messages request, for formats with their own parts of content."""

from abc import ABC, abstractmethod
from typing import Any, Final, Generic, TypeVar

from msgspec import UNSET

from tokenferry.errors import Unfit
from tokenferry.wire._field_handling import FieldTable
from tokenferry.wire._ids import call_id, tool_name
from tokenferry.wire._quirks import Quirks
from tokenferry.wire.messages import _models as messages

_BILLING: Final = "x-anthropic-billing-header"
_PDF: Final = "application/pdf"

PartT = TypeVar("PartT")


class Conversation(ABC, Generic[PartT]):
    """Takes one turn after another, and demands that each call has its result straight after it."""

    def __init__(self, table: FieldTable, quirks: Quirks, left: set[str]) -> None:
        self._table = table
        self._quirks = quirks
        self._left = left
        self._awaited: dict[str, str] = {}
        """The ids of calls without a result yet, by those that are sent for them."""

    @abstractmethod
    def _assistant(self, content: list[Any]) -> None:
        """Write a turn of the model."""

    @abstractmethod
    def _user(self, parts: list[PartT]) -> None:
        """Write what a user says, after the results of the same turn."""

    @abstractmethod
    def _system(self, text: str) -> None:
        """Write a word of the system amid the conversation."""

    @abstractmethod
    def _result(self, block: messages.ToolResultContent) -> list[PartT]:
        """Write a result; give what can't be in one, to come after all of them."""

    @abstractmethod
    def _text_part(self, text: str) -> PartT:
        """A text."""

    @abstractmethod
    def _image_part(self, url: str) -> PartT:
        """An image by its URL, which may hold the data."""

    @abstractmethod
    def _file_part(self, name: str, url: str) -> PartT:
        """A PDF document by its URL, which may hold the data. Raises `Unfit`."""

    def system_prompt(self, system: str | list[messages.TextContent] | None) -> str:
        """The system prompt in one piece, without the block that Claude Code changes with each request."""
        texts = [system or ""] if not isinstance(system, list) else [self._text(block) for block in system]
        return "\n\n".join(one for one in texts if one and not one.startswith(_BILLING))

    def add(self, turn: messages.Turn) -> None:
        """Write a turn. Raises `Unfit`."""
        content = turn.content
        if isinstance(content, str):
            content = [messages.TextContent(text=content)] if content else []
        if turn.role == "assistant":
            if self._awaited:
                self.check()
            self._assistant(content)
        elif turn.role == "system":
            self._system("\n\n".join(self._text(_only_text(block)) for block in content))
        else:
            parts = [part for block in content for part in self._user_parts(block)]
            self._user(parts)

    def check(self) -> None:
        """Raise `Unfit` if a call has no result."""
        if self._awaited:
            raise Unfit(f"the tool call {next(iter(self._awaited.values()))[:80]!r} has no result right after it")

    def _call(self, block: messages.ToolUseContent) -> tuple[str, str, str]:
        """The id, the name and the arguments of a call, whose result is awaited from here on."""
        self._table.apply(block, self._left)
        known = call_id(block.id, self._quirks.tool_ids)
        if known in self._awaited:
            raise Unfit(f"two tool calls have the id {block.id[:80]!r}")
        arguments = str(block.input, "utf-8")
        if not arguments.startswith("{"):
            raise Unfit(f"the input of the tool call {block.id[:80]!r} is no object")
        self._awaited[known] = block.id
        return known, tool_name(block.name, self._quirks.name_length), arguments

    def _answered(self, block: messages.ToolResultContent) -> str:
        """The id of the call that a result is of."""
        known = call_id(block.tool_use_id, self._quirks.tool_ids)
        if self._awaited.pop(known, None) is None:
            raise Unfit(f"the tool result {block.tool_use_id[:80]!r} has no call right before it, or two results")
        return known

    def _user_parts(self, block: messages.Content) -> list[PartT]:
        if isinstance(block, messages.TextContent):
            return [self._text_part(text)] if (text := self._text(block)) else []
        self._table.apply(block, self._left)
        match block:
            case messages.ToolResultContent():
                return self._result(block)
            case messages.ImageContent():
                return [self._image_part(self._image_url(block))]
            case messages.DocumentContent():
                return self._document(block)
            case messages.SearchResultContent():
                text = "\n".join(self._text(one) for one in block.content)
                return [self._text_part(f"{block.title}\n{block.source}\n{text}")]
            case messages.ToolReferenceContent():
                return [self._text_part(f"The tool {block.tool_name} is available.")]
        raise Unfit(f"a user message holds {block.__struct_config__.tag}")

    def _text(self, block: messages.TextContent) -> str:
        if block.cache_control is not UNSET or block.citations is not UNSET:
            self._table.apply(block, self._left)
        return block.text

    def _image_url(self, block: messages.ImageContent) -> str:
        if not self._quirks.images:
            raise Unfit("the model takes no images")
        match block.source:
            case messages.UrlSource(url=url):
                return url
            case messages.Base64Source(media_type=kind, data=data):
                return f"data:{kind};base64,{data}"
        raise Unfit("an image by its file id")

    def _document(self, block: messages.DocumentContent) -> list[PartT]:
        heading = "\n".join(one for one in (block.title, block.context) if one)
        match block.source:
            case messages.TextSource(data=text) | messages.ContentSource(content=str(text)):
                return [self._text_part(f"{heading}\n{text}".lstrip("\n"))]
            case messages.ContentSource(content=list(content)):
                parts = [part for one in content for part in self._user_parts(one)]
            case messages.Base64Source(media_type=kind, data=data) if kind == _PDF and self._quirks.documents:
                parts = [self._file_part(block.title or "document.pdf", f"data:{_PDF};base64,{data}")]
            case messages.UrlSource(url=url) if self._quirks.documents:
                parts = [self._file_part(block.title or "document.pdf", url)]
            case _:
                raise Unfit("a document that is no text")
        return [self._text_part(heading), *parts] if heading else parts


def _only_text(block: messages.Content) -> messages.TextContent:
    if not isinstance(block, messages.TextContent):
        raise Unfit(f"a system message holds {block.__struct_config__.tag}")
    return block
