"""A program of the official SDK that names no key, token or address: it asks on, and on, until stdin ends."""

import json
import sys
import threading

from anthropic import Anthropic


def main(retries: int) -> None:
    ended = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    asked, failures = 0, list[str]()
    with Anthropic(max_retries=retries) as client:
        while True:
            was_last = ended.is_set()
            try:
                client.messages.create(
                    model="claude-sonnet-5-5", max_tokens=5, messages=[{"role": "user", "content": "hi"}]
                )
            except Exception as fault:  # noqa: BLE001  # whatever it is, the test must hear of it
                failures.append(f"{type(fault).__name__}: {fault}")
            asked += 1
            if asked == 1:
                sys.stdout.write("ready\n")
                sys.stdout.flush()
            if was_last:
                break
            ended.wait(0.02)
    sys.stdout.write(json.dumps({"asked": asked, "failures": failures}) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
