"""Request bodies at the worst cost for their size: `WORST[NAME](SIZE)` has about SIZE bytes."""

from collections.abc import Callable, Mapping
from typing import Final

TAG_NAME: Final = b"CCM-SUBAGENT-MODEL"
_TAG: Final = b"<%b>x</%b>" % (TAG_NAME, TAG_NAME)
_BLOCK: Final = b'{"type":"text","text":"some words"},'


def _of(unit: bytes, size: int) -> bytes:
    return unit * (size // len(unit))


def _text(name: bytes, unit: bytes, start: bytes = b"") -> Callable[[int], bytes]:
    return lambda size: b'{"model":"x","%b":"%b%b"}' % (name, start, _of(unit, size))


def _array(name: bytes, unit: bytes, last: bytes = b"0") -> Callable[[int], bytes]:
    return lambda size: b'{"model":"x","%b":[%b%b]}' % (name, _of(unit + b",", size), last)


def _tagged(unit: bytes) -> Callable[[int], bytes]:
    return _array(b"system", unit, b'{"type":"text","text":"%b"}' % TAG_NAME)


WORST: Final[Mapping[str, Callable[[int], bytes]]] = {
    "a plain text": _text(b"a", b"a"),
    "characters of four bytes": _text(b"a", "😀".encode()),
    "escapes": _text(b"a", b"\\n"),
    "surrogate pairs": _text(b"a", b"\\ud83d\\ude00"),
    "lone surrogates": _text(b"a", b"\\ud83d"),
    "lone surrogates apart": _text(b"a", b"\\ud83dabc"),
    "numbers": _array(b"a", b"1"),
    "empty objects": _array(b"a", b"{}"),
    "small members": lambda size: b'{"model":"x","a":{%b"b":0}}' % _of(b'"a":1,', size),
    "deep nesting": _array(b"a", b"[" * 200 + b"]" * 200),
    "no end of nesting": lambda size: b"[" * size,
    "many top-level members": lambda size: b'{%b"model":"x"}' % _of(b'"a":1,', size),
    "white space": lambda size: b'{%b"model"%b:"x"}' % (b" " * (size // 2), b" " * (size // 2)),
    "digits, and small values": lambda size: b'{"d":"%b","a":[%b0]}' % (b"9" * 5000, _of(b"{},", size)),
    "nothing but digits": _text(b"a", b"9"),
    "a long name": lambda size: b'{"%b":1,"model":"x"}' % _of(b'\\"', size),
    "a long model": lambda size: b'{"model":"%b"}' % _of(b"\\ud83d", size),
    "thinking with small members": lambda size: b'{"model":"x","thinking":{%b"b":0}}' % _of(b'"a":1,', size),
    "tools as empty objects": _array(b"tools", b"{}"),
    "tools with escapes": _array(b"tools", b'{"type":"\\u0041"}', b"{}"),
    "a web search after all else": _array(b"tools", b"{}", b'{"type":"web_search"}'),
    "a system prompt": _text(b"system", b"a"),
    "a tag's name once": _text(b"system", b"a", TAG_NAME),
    "a tag's name and escapes": _text(b"system", b'\\"', TAG_NAME),
    "a tag's name and lone surrogates": _text(b"system", b"\\ud83d", TAG_NAME),
    "a tag's name after backslashes": lambda size: (
        b'{"model":"x","system":"%b\\u003c%b"}' % (_of(b"\\\\", size), TAG_NAME)
    ),
    "nothing but tags' names": _text(b"system", TAG_NAME),
    "nothing but tags": _text(b"system", _TAG),
    "tags without an end": _text(b"system", b"<%b>%b" % (TAG_NAME, b"\\n" * 512)),
    "blocks, and a tag's name": _tagged(_BLOCK[:-1]),
    "blocks of many members, with a tag's name": _tagged(
        b'{%b"text":"%b"}' % (b'"a":1,' * 900, TAG_NAME),
    ),
    "empty blocks, and a tag's name": _tagged(b"{}"),
    "numbers, and a tag's name": _tagged(b"1"),
    "many system prompts": lambda size: b'{%b"model":"x"}' % _of(b'"system":"%b",' % (TAG_NAME * 1500), size),
}
