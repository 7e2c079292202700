"""Ask two vendors the same question with the same tools, in one loop, and print the tokens used.

    python examples/two_vendors.py CLAUDE_MODEL CHAT_MODEL

For example with the models claude-sonnet-5-5 and openai/gpt-5.1.
"""

import sys
from collections.abc import Callable
from typing import Any, TypeAlias

import tokenferry
from tokenferry.tools import Registry

Turn: TypeAlias = tuple[dict[str, Any], str, int, int]
"""The model's message, its text, and its input and output tokens."""

registry = Registry()


@registry.tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def claude(model: str, messages: list[Any]) -> Turn:
    with tokenferry.anthropic() as client:
        found = client.messages.create(
            model=model,
            max_tokens=1000,
            messages=messages,
            tools=registry.anthropic(),  # type: ignore[arg-type]
        )
    reply = found.to_dict()
    text = "".join(block.text for block in found.content if block.type == "text")
    answer = {"role": "assistant", "content": reply["content"]}
    return answer, text, found.usage.input_tokens, found.usage.output_tokens


def chat(model: str, messages: list[Any]) -> Turn:
    with tokenferry.openai() as client:
        found = client.chat.completions.create(
            model=model,
            messages=messages,
            tools=registry.openai(),  # type: ignore[arg-type]
        )
    message = found.choices[0].message
    usage = found.usage
    assert usage is not None
    return message.to_dict(), message.content or "", usage.prompt_tokens, usage.completion_tokens


def converse(ask: Callable[[str, list[Any]], Turn], model: str, question: str) -> None:
    """Go on until the model calls no tool."""
    messages: list[Any] = [{"role": "user", "content": question}]
    read = wrote = 0
    while True:
        answer, text, input_tokens, output_tokens = ask(model, messages)
        read, wrote = read + input_tokens, wrote + output_tokens
        messages.append(answer)
        results = registry.results(answer)
        if not results:
            break
        messages += results
    print(f"{model}: {text}\n  {read} tokens read, {wrote} written")


if __name__ == "__main__":
    claude_model, chat_model = sys.argv[1:]
    converse(claude, claude_model, "What is 2 + 3?")
    converse(chat, chat_model, "What is 2 + 3?")
