import os
import threading

from tokenferry.login import Paste


def test_lines_are_given_as_they_come_without_blanks_and_the_last_counts_at_the_end() -> None:
    reader, writer = os.pipe()
    paste = Paste(reader)
    assert paste.fileno() == reader
    os.write(writer, b"\n  one \ntw")
    assert paste.read() == [["one"]]
    os.write(writer, b"o\r\n\xff#three")
    assert paste.read() == [["two"]]
    os.close(writer)
    before, last, after = paste.is_over, paste.read(), paste.is_over
    assert (before, last, after) == (False, [["\N{REPLACEMENT CHARACTER}#three"]], True)
    os.close(reader)


def test_lines_that_follow_at_once_are_one_paste() -> None:
    """A terminal gives them one by one. A program's lines are pastes of their own."""
    reader, writer = os.pipe()
    paste = Paste(reader, is_typed=True)
    os.write(writer, b"one\n")
    later = threading.Timer(0.02, os.write, (writer, b"two\n"))
    later.start()
    assert paste.read() == [["one", "two"]]
    later.join()
    os.write(writer, b"one\ntwo\n")
    assert Paste(reader).read() == [["one"], ["two"]]
    os.close(writer)
    os.close(reader)


def test_a_descriptor_that_is_gone_is_at_its_end() -> None:
    reader, writer = os.pipe()
    paste = Paste(reader)
    os.close(reader)
    os.close(writer)
    assert paste.read() == []
    assert paste.is_over


def test_a_line_without_an_end_takes_bounded_room() -> None:
    reader, writer = os.pipe()
    paste = Paste(reader)
    for _ in range(10):
        os.write(writer, b"x" * 16_384)
        assert paste.read() == []
    assert len(paste._rest) <= 16_384
    os.close(writer)
    os.close(reader)
