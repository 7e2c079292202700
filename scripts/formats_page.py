"""Write the tables of docs/formats.md from the codecs' declarations."""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from tokenferry.wire.chat._from_chat import TABLE as FROM_CHAT  # this tree's package, not an installed one
from tokenferry.wire.chat._to_chat import TABLE as TO_CHAT
from tokenferry.wire.gemini._from_gemini import TABLE as FROM_GEMINI
from tokenferry.wire.gemini._to_gemini import TABLE as TO_GEMINI
from tokenferry.wire.responses._from_responses import TABLE as FROM_RESPONSES
from tokenferry.wire.responses._to_responses import TABLE as TO_RESPONSES

PAGE = Path(__file__).resolve().parents[1] / "docs" / "formats.md"
_TABLE = re.compile(r"(?<=<!-- begin fields: )(\S+) -->\n.*?(?=<!-- end -->)", re.DOTALL)
_TABLES = {
    "messages-to-chat": TO_CHAT,
    "chat-to-messages": FROM_CHAT,
    "messages-to-responses": TO_RESPONSES,
    "responses-to-messages": FROM_RESPONSES,
    "gemini-to-messages": FROM_GEMINI,
    "messages-to-gemini": TO_GEMINI,
}


def page(text: str) -> str:
    """The page with up-to-date tables, each between `<!-- begin fields: NAME -->` and `<!-- end -->`."""
    return _TABLE.sub(lambda found: f"{found[1]} -->\n{_table(found[1])}", text)


def _table(name: str) -> str:
    rows = [
        f"| `{part}` | `{field}` | {handling.word} | {_sentence(handling.note)} |"
        for part, field, handling in _TABLES[name].rows()
    ]
    return "\n".join(["", "| Part | Field | Handling | Note |", "|---|---|---|---|", *rows, "\n"])


def _sentence(clause: str) -> str:
    return f"{clause[0].upper()}{clause[1:]}." if clause else ""


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
