"""Resolve an account, tell the token's sha256, and live until stdin ends."""

import sys

from tokenferry import Broker


def main(name: str) -> None:
    broker = Broker.from_home()
    sys.stdout.write(f"{broker.resolve(name).secret.sha256}\n")
    sys.stdout.flush()
    sys.stdin.read()
    sys.stdout.write(f"{broker.resolve(name).secret.sha256}\n")


if __name__ == "__main__":
    main(sys.argv[1])
