"""One host's processes: so many forks that all ask for one account at once, each with connections of its own."""

import json
import os
import sys
import time
from hashlib import sha256

from tokenferry.broker import Broker
from tokenferry.errors import TokenferryError, TryLater


def ask(broker: Broker, name: str, tries: int = 5) -> str:
    """The sha256 of what this process was given, or the error."""
    for left in reversed(range(tries)):
        try:
            return sha256(broker.resolve(name).secret.reveal().encode()).hexdigest()
        except TokenferryError as fault:
            if not left or not isinstance(fault, TryLater):
                return f"{type(fault).__name__}: {fault}"
            time.sleep(fault.retry_after or 1.0)
    raise AssertionError


def main(name: str, count: int, start: float) -> None:
    broker = Broker.from_home()
    reading, writing = os.pipe()
    for _ in range(count):
        if os.fork() == 0:
            os.close(reading)
            time.sleep(max(0.0, start - time.time()))
            os.write(writing, f"{json.dumps(ask(broker, name))}\n".encode())
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answers:
        sys.stdout.write(json.dumps([json.loads(line) for line in answers]))


main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
