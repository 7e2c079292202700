"""One of a herd: make a broker, wait for stdin to end, resolve in threads, and tell the sha256 of each token."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from tokenferry import Broker


def main(name: str, threads: int) -> None:
    broker = Broker.from_home()
    barrier = Barrier(threads)

    def resolve() -> str:
        barrier.wait()
        return broker.resolve(name).secret.sha256

    with ThreadPoolExecutor(threads) as pool:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.read()
        futures = [pool.submit(resolve) for _ in range(threads)]
        given = [future.result() for future in futures]
    seen = broker.statistics(name)
    sys.stdout.write(json.dumps({"given": given, "grants": seen.grants, "adopted": seen.adopted}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
