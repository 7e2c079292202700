"""Reads the turns of a Messages request, for codecs that write another format's parts."""

from abc import ABC, abstractmethod
from typing import Any, Final, Generic, TypeVar

from msgspec import UNSET

from tokenferry.errors import Unfit
from tokenferry.wire._field_handling import FieldTable
from tokenferry.wire._ids import PendingCalls, tool_name
from tokenferry.wire._quirks import Quirks
from tokenferry.wire.messages import _models as messages

_BILLING: Final = "x-anthropic-billing-header"
_PDF: Final = "application/pdf"

PartT = TypeVar("PartT")


class Conversation(ABC, Generic[PartT]):
    """Reads turn after turn. Each call must have its result right after it."""

    def __init__(self, table: FieldTable, quirks: Quirks, left: set[str]) -> None:
        self._table = table
        self._quirks = quirks
        self._left = left
        self._pending = PendingCalls(quirks.tool_ids)

    @abstractmethod
    def _assistant(self, content: list[Any]) -> None:
        """Write a turn of the model."""

    @abstractmethod
    def _user(self, parts: list[PartT]) -> None:
        """Write the parts of a user's turn, after its results."""

    @abstractmethod
    def _system(self, text: str) -> None:
        """Write a system turn within the conversation."""

    @abstractmethod
    def _result(self, block: messages.ToolResultContent) -> list[PartT]:
        """Write a result, and give the parts that must follow the results."""

    @abstractmethod
    def _text_part(self, text: str) -> PartT:
        """Give the part for a text."""

    @abstractmethod
    def _image_part(self, url: str) -> PartT:
        """Give the part for an image by http or data URL."""

    @abstractmethod
    def _file_part(self, name: str, url: str) -> PartT:
        """Give the part for a PDF document by http or data URL. Raises `Unfit`."""

    def system_prompt(self, system: str | list[messages.TextContent] | None) -> str:
        """Give the system prompt as one text, without the block that Claude Code changes with each request."""
        texts = [system or ""] if not isinstance(system, list) else [self._text(block) for block in system]
        return "\n\n".join(one for one in texts if one and not one.startswith(_BILLING))

    def add(self, turn: messages.Turn) -> None:
        """Write a turn. Raises `Unfit`."""
        content = turn.content
        if isinstance(content, str):
            content = [messages.TextContent(text=content)] if content else []
        if turn.role == "assistant":
            self._pending.check()
            self._assistant(content)
        elif turn.role == "system":
            self._system("\n\n".join(self._text(_only_text(block)) for block in content))
        else:
            parts = [part for block in content for part in self._user_parts(block)]
            self._user(parts)

    def check(self) -> None:
        """Raise `Unfit` if a call has no result."""
        self._pending.check()

    def _call(self, block: messages.ToolUseContent) -> tuple[str, str, str]:
        """Give the id, the name and the arguments of a call, which now awaits its result."""
        self._table.apply(block, self._left)
        known = self._pending.add(block.id)
        arguments = str(block.input, "utf-8")
        if not arguments.startswith("{"):
            raise Unfit(f"the input of the tool call {block.id[:80]!r} is not a JSON object")
        return known, tool_name(block.name, self._quirks.name_length), arguments

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
        raise Unfit("an image is given by its file id; send its data")

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
                raise Unfit("the model takes no documents but text")
        return [self._text_part(heading), *parts] if heading else parts


def _only_text(block: messages.Content) -> messages.TextContent:
    if not isinstance(block, messages.TextContent):
        raise Unfit(f"a system message holds {block.__struct_config__.tag}")
    return block
