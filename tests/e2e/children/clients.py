"""Ask one question through each of some SDK clients, all at once, and tell what each was answered."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor

from anthropic import Anthropic

import tokenferry


def ask(base_url: str, name: str) -> str:
    credentials = tokenferry.anthropic_credentials(name)
    with Anthropic(base_url=base_url, credentials=credentials, max_retries=1) as client:
        message = client.messages.create(
            model="claude-sonnet-5-5", max_tokens=50, messages=[{"role": "user", "content": "hi"}]
        )
    return "".join(block.text for block in message.content if block.type == "text")


def main(base_url: str, name: str, clients: int) -> None:
    with ThreadPoolExecutor(clients) as pool:
        answers = list(pool.map(lambda _: ask(base_url, name), range(clients)))
    sys.stdout.write(json.dumps(answers))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
