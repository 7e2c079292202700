"""Resolve an account and tell the token's sha256: at once, for each line of stdin, and at its end."""

import sys
from itertools import chain

from tokenferry import Broker


def main(name: str) -> None:
    broker = Broker.from_home()
    for _ in chain([""], sys.stdin, [""]):
        sys.stdout.write(f"{broker.resolve(name).secret.sha256}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
