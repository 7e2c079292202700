"""Reads a request's body strictly: a wrong type is an error, an unknown field is left out by name."""

import json
from collections.abc import Callable
from typing import Any, Final, Generic, TypeAlias, TypeVar

import msgspec
from msgspec import inspect

from tokenferry.errors import Unfit

_MOST_OBJECTS: Final = 200_000
_SMALL: Final = 1024 * 1024
_LONGEST_REASON: Final = 200

encode: Final = msgspec.json.Encoder().encode

_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

RequestT = TypeVar("RequestT", bound=msgspec.Struct)
AnswerT = TypeVar("AnswerT", bound=msgspec.Struct)

Unread: TypeAlias = msgspec.Raw | msgspec.UnsetType
"""A field that no codec reads: it passes, is left out, or makes the request unfit."""


class RequestPart(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True, kw_only=True, gc=False):
    """The base of the structs of requests."""


class RequestReader(Generic[RequestT]):
    """Reads requests of one type. Its structs forbid unknown fields, so a request without any is decoded only once.

    `complete` adds fields to a document that clients may leave out and the structs demand.
    """

    def __init__(self, kind: type[RequestT], complete: Callable[[Any], None] | None = None) -> None:
        self._kind = kind
        self._complete = complete
        self._decoder = msgspec.json.Decoder(kind)

    def read(self, body: bytes, left_out: set[str]) -> RequestT:
        """Read a request, and add the names of unknown fields to `left_out`. Raises `Unfit`."""
        if len(body) > _SMALL and body.count(b"{") > _MOST_OBJECTS:
            raise Unfit(f"the request's body has more than {_MOST_OBJECTS:,} objects; send less")
        try:
            try:
                return self._decoder.decode(body)
            except msgspec.DecodeError as fault:
                is_wrong = isinstance(fault, msgspec.ValidationError) and "unknown field" not in str(fault)
                if is_wrong and self._complete is None:
                    raise
                document = _decoded(body)
                if self._complete is not None:
                    self._complete(document)
                return self._decoder.decode(encode(_prune(document, _shape(self._kind), left_out)))
        except RecursionError:
            raise Unfit("the request's body is nested too deeply") from None
        except ValueError as fault:  # msgspec's errors too
            raise Unfit(f"the request's body can't be translated: {_shortened(str(fault))}") from None


def decode(part: bytes) -> Any:
    """Decode a part of a request that the structs left raw. Raises `Unfit`."""
    try:
        return _decoded(part)
    except RecursionError:
        raise Unfit("a schema is nested too deeply") from None
    except ValueError as fault:  # msgspec's errors too
        raise Unfit(f"a schema can't be translated: {_shortened(str(fault))}") from None


def _decoded(text: bytes) -> Any:
    """Decode JSON. Half surrogate pairs become "?": clients cut texts in the middle of a pair."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return msgspec.json.decode(_repaired(json.loads(bytes(text))))


def _repaired(document: Any) -> bytes:
    """Encode a document with "?" in place of half surrogate pairs."""
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")


def answer_decoder(kind: type[AnswerT]) -> Callable[[bytes], AnswerT]:
    """Give a decoder of an upstream's answers or events of one type, which raises `ValueError` and `RecursionError`.

    Some servers cut texts in the middle of a surrogate pair, or write NaN: the one becomes "?", the other null.
    """
    decode_strictly = msgspec.json.Decoder(kind).decode

    def decode_leniently(text: bytes) -> AnswerT:
        try:
            return decode_strictly(text)
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError as fault:
            try:
                document = json.loads(text, parse_constant=lambda _: None)
            except ValueError:
                raise fault from None
            return decode_strictly(_repaired(document))

    return decode_leniently


def _shortened(reason: str) -> str:
    """Give the beginning of a reason, which may quote the client, and its end, which names the place."""
    return reason if len(reason) <= _LONGEST_REASON else f"{reason[:100]}…{reason[100 - _LONGEST_REASON :]}"


def _shape(kind: type) -> inspect.Type:
    return inspect.type_info(kind)


def _prune(value: Any, shape: inspect.Type, unknown: set[str]) -> Any:
    """Give the value without the fields that its shape lacks."""
    if isinstance(shape, inspect.UnionType):
        return next((_prune(value, one, unknown) for one in shape.types if _may_be(value, one)), value)
    if isinstance(shape, inspect.ListType) and isinstance(value, list):
        return [_prune(one, shape.item_type, unknown) for one in value]
    if not isinstance(shape, inspect.StructType) or not isinstance(value, dict):
        return value
    fields = {field.encode_name: field.type for field in shape.fields}
    known = {*fields, shape.tag_field}
    unknown.update(name[:64] for name in value.keys() - known if _asks(value[name]))
    return {
        name: _prune(one, fields[name], unknown) if name in fields else one
        for name, one in value.items()
        if name in known
    }


def _asks(value: Any) -> bool:
    """Whether the value of an unknown field may ask for something."""
    return value not in (None, [], {}) and value is not False


def _may_be(value: Any, shape: inspect.Type) -> bool:
    if isinstance(value, list):
        return isinstance(shape, inspect.ListType)
    if not isinstance(value, dict) or not isinstance(shape, inspect.StructType):
        return False
    return shape.tag_field is None or value.get(shape.tag_field) == shape.tag


def json_text(arguments: Any) -> Any:
    """Give a call's arguments as text. Some servers give the object itself, or none."""
    return encode(arguments).decode() if isinstance(arguments, dict) else arguments or "{}"


def is_object(text: str | bytes) -> bool:
    """Tell whether a text is a JSON object. It never raises."""
    try:
        _object(text)
    except (ValueError, RecursionError):
        return False
    return True
