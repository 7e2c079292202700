"""An answer's framing, whatever was tried before."""

from collections.abc import Iterable

import pytest

from tokenferry.gateway.http.response_writer import ResponseWriter


class Line:
    """A connection that keeps what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.is_cut = self.is_answered = False

    @property
    def transport(self) -> "Line":
        return self

    def write(self, data: bytes) -> None:
        self.written += data

    def writelines(self, list_of_data: Iterable[bytes], /) -> None:
        self.written += b"".join(list_of_data)

    def answered(self, answering: ResponseWriter) -> None:
        self.is_answered = True

    def cut(self) -> None:
        self.is_cut = True


@pytest.mark.parametrize(("status", "length"), [(200, None), (200, 99), (204, None), (304, None)])
def test_a_head_that_can_not_be_sent_leaves_nothing_behind_for_the_error_in_its_place(
    status: int, length: int | None
) -> None:
    line = Line()
    answering = ResponseWriter(line, to_head=False, keep=True, expects=False)
    with pytest.raises(ValueError, match="CR or LF"):
        answering.start(status, [b"x: a\r\nb: c\r\n"], length)
    answering.start(500, [b"content-length: 4\r\n"], 4)
    answering.write(b"oops")
    answering.end()
    assert line.written == b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 4\r\n\r\noops"
    assert (line.is_answered, line.is_cut) == (True, False)
