"""CPU time of the first-content gate per stream, up to the first content."""

import time
from collections.abc import Callable

from bench._content import START
from tokenferry.streaming import FirstContentBuffer

ROUNDS = 5
STREAMS = 5_000

PING = b'event: ping\ndata: {"type":"ping"}\n\n'
BLOCK = (
    b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":{"type":"text"}}\n\n'
)
CASES = {
    "all in one read": (START + PING + BLOCK,),
    "a read for each event": (START, PING, BLOCK),
    "cut in the middle of each event": (START[:40], START[40:] + PING[:9], PING[9:] + BLOCK[:30], BLOCK[30:]),
}


def main() -> None:
    """Print microseconds per stream."""
    print(f"{'the beginning of a stream':<34}{'us':>8}")
    for title, reads in CASES.items():
        print(f"  {title:<32}{least(lambda reads=reads: through(reads)):>8.1f}", flush=True)  # type: ignore[misc]


def through(reads: tuple[bytes, ...]) -> None:
    gate = FirstContentBuffer()
    states = [gate.feed(read) for read in reads]
    assert states[-1] == "open"
    b"".join(gate.held)


def least(call: Callable[[], None]) -> float:
    """The minimum over several runs; disturbances only add time."""
    runs = []
    for _ in range(ROUNDS):
        started = time.process_time()
        for _ in range(STREAMS):
            call()
        runs.append((time.process_time() - started) / STREAMS * 1e6)
    return min(runs)


if __name__ == "__main__":
    main()
