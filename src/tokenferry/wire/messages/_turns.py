"""Writes the turns of a Messages request, from formats whose conversations are lists of single messages or items."""

import re
from typing import Any, Final, Literal

import msgspec

from tokenferry.errors import Unfit
from tokenferry.wire._ids import call_id, tool_name
from tokenferry.wire.messages import _models as messages

LONGEST_NAME: Final = 128
"""Of a tool."""
_DATA_URL: Final = re.compile(r"data:([a-z]+/[a-z0-9.+-]+);base64,")
_WEB: Final = ("https://", "http://")
_THOUGHTS: Final = (messages.ThinkingContent, messages.RedactedThinkingContent)


class TurnWriter:
    """Roles alternate, and the results of calls begin the turn after them."""

    def __init__(self) -> None:
        self._system: list[messages.TextContent] = []
        self._turns: list[messages.Turn] = []
        self._awaited: dict[str, str] = {}
        """The ids of calls without a result yet, by those that are sent for them."""

    def end(self) -> tuple[list[messages.TextContent], list[messages.Turn]]:
        """The system prompt and the turns. Raises `Unfit` where a call has no result."""
        self.check()
        if not self._turns:
            raise Unfit("the request has no message that isn't empty")
        last = self._turns[-1]
        if last.role == "assistant" and isinstance(block := last.content[-1], messages.TextContent):
            block.text = block.text.rstrip()
        return self._system, self._turns

    def check(self) -> None:
        """Raise `Unfit` if a call has no result."""
        if self._awaited:
            raise Unfit(f"the tool call {next(iter(self._awaited.values()))[:80]!r} has no result right after it")

    def check_turn(self) -> None:
        """Raise `Unfit` if the model is to go on though a call of its last turn has no result."""
        if self._awaited and self._turns[-1].role == "user":
            self.check()

    @property
    def may_think(self) -> bool:
        """Whether Claude may think now: not where the last turn that it took is a call without its thinking."""
        last = next((turn.content for turn in reversed(self._turns) if turn.role == "assistant"), ())
        return isinstance(next(iter(last), None), _THOUGHTS) or not any(
            isinstance(block, messages.ToolUseContent) for block in last
        )

    def system(self, text: str) -> None:
        """Add to the system prompt; amid the conversation, a user's text in its place."""
        if not text:
            return
        if self._turns:
            self.add("user", [messages.TextContent(text=f"<system-reminder>\n{text}\n</system-reminder>")])
        else:
            self.instruct(text)

    def instruct(self, text: str) -> None:
        """Add to the system prompt, wherever the conversation is."""
        self._system.append(messages.TextContent(text=text))

    def add(self, role: Literal["user", "assistant"], blocks: list[messages.Content]) -> None:
        """Add to the turn of that role, or begin one."""
        if not blocks:
            return
        if self._turns and self._turns[-1].role == role:
            content = self._turns[-1].content
            assert isinstance(content, list)
            content += blocks
        else:
            self._turns.append(messages.Turn(role=role, content=blocks))

    def call(self, known: str, name: str, arguments: msgspec.Raw) -> messages.ToolUseContent:
        """A call, whose result is awaited from here on."""
        given, known = known, call_id(known, "any")
        if known in self._awaited:
            raise Unfit(f"two tool calls have the id {given[:80]!r}")
        self._awaited[known] = given
        return messages.ToolUseContent(id=known, name=tool_name(name, LONGEST_NAME), input=arguments)

    def result(self, known: str, content: Any, *, is_error: bool = False) -> None:
        """Add the result of a call: at the beginning of its turn, after other results."""
        given, known = known, call_id(known, "any")
        if self._awaited.pop(known, None) is None:
            raise Unfit(f"the result of the tool call {given[:80]!r} has no call right before it, or is the second")
        result = messages.ToolResultContent(tool_use_id=known, content=content, is_error=is_error or None)
        if self._turns[-1].role == "assistant":
            self.add("user", [result])
            return
        blocks = self._turns[-1].content
        assert isinstance(blocks, list)
        place = next(
            (at for at, one in enumerate(blocks) if not isinstance(one, messages.ToolResultContent)), len(blocks)
        )
        blocks.insert(place, result)


def text_blocks(texts: list[str]) -> list[messages.Content]:
    """The texts but for those of white space alone, which the API refuses."""
    return [messages.TextContent(text=text) for text in texts if text.strip()]


def image_block(url: str) -> messages.ImageContent:
    """An image by its URL, which may hold the data. Raises `Unfit`."""
    if url.startswith(_WEB):
        return messages.ImageContent(source=messages.UrlSource(url=url))
    return messages.ImageContent(source=_data(url, "an image's URL"))


def document_block(name: str | None, url: str) -> messages.DocumentContent:
    """A PDF document by its URL, which may hold the data. Raises `Unfit`."""
    if url.startswith(_WEB):
        return messages.DocumentContent(source=messages.UrlSource(url=url), title=name)
    source = _data(url, "a file")
    if source.media_type != "application/pdf":
        raise Unfit("a file that is no PDF document")
    return messages.DocumentContent(source=source, title=name)


def _data(url: str, what: str) -> messages.Base64Source:
    found = _DATA_URL.match(url)
    if found is None:
        raise Unfit(f"{what} is neither http nor base64 data")
    return messages.Base64Source(media_type=found[1], data=url[found.end() :])
