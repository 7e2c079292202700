import subprocess
import sys

from tokenferry.gateway import SharedMemory


def test_each_reads_what_the_others_have_put_last() -> None:
    board = SharedMemory(3)
    assert board.others(0) == {}
    assert board.put(0, b"a" * 5000)
    assert board.put(0, b"first")
    assert board.put(2, b"third")
    assert board.others(1) == {0: b"first", 2: b"third"}
    assert board.others(0) == {2: b"third"}


def test_a_forked_process_writes_where_others_see_it() -> None:
    program = (
        "import os; from tokenferry.gateway import SharedMemory; board = SharedMemory(2); child = os.fork()\n"
        "if child == 0: board.put(1, b'from the child'); os._exit(0)\n"
        "os.waitpid(child, 0); print(board.others(0))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "{1: b'from the child'}"


def test_what_is_too_large_leaves_what_was_there() -> None:
    board = SharedMemory(2)
    board.put(0, b"small")
    assert not board.put(0, b"x" * (1 << 20))
    assert board.others(1) == {0: b"small"}


def test_what_is_written_half_is_not_read() -> None:
    board = SharedMemory(2)
    board.put(0, b"whole")
    board._memory[10:12] = b"??"
    assert board.others(1) == {}
