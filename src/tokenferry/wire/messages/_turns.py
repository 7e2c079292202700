"""Writes the turns of a Messages request, from formats that list single messages or items."""

import re
from typing import Any, Final, Literal

import msgspec

from tokenferry.errors import Unfit
from tokenferry.wire._ids import PendingCalls, tool_name
from tokenferry.wire.messages import _models as messages

LONGEST_NAME: Final = 128
"""The longest name of a tool, in characters."""
_DATA_URL: Final = re.compile(r"data:([a-z]+/[a-z0-9.+-]+)(?:;[^;,]{0,80}){0,4};base64,", re.IGNORECASE)
_WEB_URL: Final = re.compile(r"https?://", re.IGNORECASE)
_MEDIA_TYPES: Final = {"image/jpg": "image/jpeg"}
"""Claude's names of types by others that clients use."""
_THOUGHTS: Final = (messages.ThinkingContent, messages.RedactedThinkingContent)


class TurnWriter:
    """Writes turns with alternating roles, and results at the beginning of the turn after their calls."""

    def __init__(self) -> None:
        self._system: list[messages.TextContent] = []
        self._turns: list[messages.Turn] = []
        self._results = 0
        """The results at the beginning of the last turn."""
        self._pending = PendingCalls("any")

    def end(self) -> tuple[list[messages.TextContent], list[messages.Turn]]:
        """Give the system prompt and the turns. Raises `Unfit` if a call has no result."""
        self.check()
        if not self._turns:
            only = "the request has only a system prompt; add a message of the user"
            raise Unfit(only if self._system else "every message of the request is empty")
        last = self._turns[-1]
        if last.role == "assistant" and isinstance(block := last.content[-1], messages.TextContent):
            block.text = block.text.rstrip()
        return self._system, self._turns

    def check(self) -> None:
        """Raise `Unfit` if a call has no result."""
        self._pending.check()

    def check_turn(self) -> None:
        """Raise `Unfit` if the model's turn is to follow, but a call of its last turn has no result."""
        if self._pending and self._turns[-1].role == "user":
            self._pending.check()

    @property
    def may_think(self) -> bool:
        """Whether Claude may think: not if its last turn has calls but no thinking at its beginning."""
        last = next((turn.content for turn in reversed(self._turns) if turn.role == "assistant"), ())
        return isinstance(next(iter(last), None), _THOUGHTS) or not any(
            isinstance(block, messages.ToolUseContent) for block in last
        )

    def system(self, text: str) -> None:
        """Add to the system prompt, or within the conversation as user text in tags."""
        if not text:
            return
        if self._turns:
            self.add("user", [messages.TextContent(text=f"<system-reminder>\n{text}\n</system-reminder>")])
        else:
            self.instruct(text)

    def instruct(self, text: str) -> None:
        """Add to the system prompt at any point of the conversation."""
        self._system.append(messages.TextContent(text=text))

    def add(self, role: Literal["user", "assistant"], blocks: list[messages.Content]) -> None:
        """Add to the last turn if it has this role; otherwise begin one."""
        if not blocks:
            return
        if self._turns and self._turns[-1].role == role:
            content = self._turns[-1].content
            assert isinstance(content, list)
            content += blocks
        else:
            self._turns.append(messages.Turn(role=role, content=blocks))
            self._results = 0

    def call(self, known: str, name: str, arguments: msgspec.Raw) -> messages.ToolUseContent:
        """Give the block for a call, which now awaits its result."""
        sent = self._pending.add(known)
        return messages.ToolUseContent(id=sent, name=tool_name(name, LONGEST_NAME), input=arguments)

    def result(self, known: str, content: Any, *, is_error: bool = False) -> None:
        """Add the result of a call at the beginning of the turn, after other results."""
        sent = self._pending.answer(known)
        result = messages.ToolResultContent(tool_use_id=sent, content=content, is_error=is_error or None)
        if self._turns[-1].role == "assistant":
            self.add("user", [result])
            self._results = 1
            return
        blocks = self._turns[-1].content
        assert isinstance(blocks, list)
        blocks.insert(self._results, result)
        self._results += 1


def text_blocks(texts: list[str]) -> list[messages.Content]:
    """Give the texts as blocks, without those of only white space, which the API refuses."""
    return [messages.TextContent(text=text) for text in texts if text.strip()]


def image_block(url: str) -> messages.ImageContent:
    """Give the block for an image by http or data URL. Raises `Unfit`."""
    if _WEB_URL.match(url):
        return messages.ImageContent(source=messages.UrlSource(url=url))
    return messages.ImageContent(source=_data(url, "an image's URL"))


def document_block(name: str | None, url: str) -> messages.DocumentContent:
    """Give the block for a PDF document by http or data URL. Raises `Unfit`."""
    if _WEB_URL.match(url):
        return messages.DocumentContent(source=messages.UrlSource(url=url), title=name)
    source = _data(url, "a file")
    if source.media_type != "application/pdf":
        raise Unfit("a file is not a PDF document")
    return messages.DocumentContent(source=source, title=name)


def _data(url: str, noun: str) -> messages.Base64Source:
    found = _DATA_URL.match(url)
    if found is None:
        raise Unfit(f"{noun} is neither an http URL nor base64 data")
    return base64_source(found[1], url[found.end() :])


def base64_source(media_type: str, data: str) -> messages.Base64Source:
    """Give the source of a file that is sent as data."""
    kind = media_type.lower()
    return messages.Base64Source(media_type=_MEDIA_TYPES.get(kind, kind), data=data)
