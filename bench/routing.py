"""Reading, routing and rewriting a request's body, compared with other ways to do it: `python -m bench routing`."""

import json
import time
import timeit
import tracemalloc
from collections.abc import Callable  # noqa: TC003  # as everywhere
from contextlib import suppress
from typing import Any, Final

import msgspec

from bench._bodies import WORST
from tokenferry.providers import Provider
from tokenferry.routing import BodyFacts, Route, Router, TooComplex, rewrite, scan
from tokenferry.settings import ModelMapping, ModelSettings, RouterSettings

ROUNDS: Final = 15
LARGEST: Final = 31 << 20
SIZES: Final = (2_000, 50_000, 200_000)
PROVIDERS: Final = {"up": Provider("up", "up", "https://up.example")}
MODELS: Final = [
    ModelSettings(name, (ModelMapping("up", f"up/{name}"),)) for name in ("main", "small", "deep", "search")
]


def body(size: int, *, ascii_only: bool) -> bytes:
    """A body as Claude Code writes it: compact, the model first, a tool with a `model` of its own."""
    word = "some words \\n" if ascii_only else "some words — \\n"
    document: dict[str, Any] = {
        "model": "claude-sonnet-4-5",
        "messages": [],
        "system": [{"type": "text", "text": "header"}, {"type": "text", "text": "prompt"}],
        "tools": [{"name": "Agent", "input_schema": {"properties": {"model": {"type": "string"}}}}],
        "max_tokens": 64_000,
        "thinking": {"type": "adaptive"},
        "stream": True,
    }
    while True:
        written = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
        if len(written) >= size:
            return written
        fill = word * max(1, min(50, (size - len(written)) // 20))
        document["messages"].append({"role": "user", "content": fill})


def facts_of(text: bytes) -> BodyFacts:
    facts = scan([text])
    assert isinstance(facts, BodyFacts)
    return facts


def through(router: Router, text: bytes) -> list[bytes | memoryview]:
    facts = facts_of(text)
    route = router.route(facts, size=len(text))
    assert isinstance(route, Route)
    return rewrite(facts, route.targets[0].model, without_tag=route.without_tag)


def by_json(text: bytes) -> bytes:
    document = json.loads(text)
    document["model"] = "up/main"
    return json.dumps(document).encode()


def by_msgspec(text: bytes) -> bytes:
    """Without the members: duplicates are lost, and the model's position is unknown."""
    document = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    document["model"] = msgspec.Raw(b'"up/main"')
    return msgspec.json.encode(document)


def ask_all(text: bytes) -> None:
    """Read it, and ask for every fact that a rule may need."""
    facts = scan([text])
    if isinstance(facts, BodyFacts):
        with suppress(TooComplex):
            _ = facts.stream, facts.thinking, facts.web_search, facts.tag


def print_worst() -> None:
    print(f"\nbodies of {LARGEST >> 20} MiB that cost the most{'':<9}{'ms':>6}{'MiB':>6}")
    for name, make in WORST.items():
        text = make(LARGEST)
        seconds = []
        for _ in range(3):
            start = time.process_time()
            ask_all(text)
            seconds.append(time.process_time() - start)
        tracemalloc.start()
        ask_all(text)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        print(f"{name:<46}{min(seconds) * 1e3:>6.0f}{peak >> 20:>6}")


def main() -> None:
    plain = Router()
    routing = Router(
        RouterSettings(default="main", background="small", think="deep", websearch="search"), MODELS, PROVIDERS
    )
    codecs: dict[str, Callable[[bytes], object]] = {
        "scan": facts_of,
        "scan, route, rewrite; nothing configured": lambda text: through(plain, text),
        "scan, route, rewrite; every built-in rule": lambda text: through(routing, text),
        "msgspec: dict of raw values and back": by_msgspec,
        "json: read and written": by_json,
    }
    cases = {(size, kind): body(size, ascii_only=kind == "ASCII") for size in SIZES for kind in ("ASCII", "beyond")}
    print(f"us per body{'':<35}" + "".join(f"{len(text):>9} {kind:<6}" for (_, kind), text in cases.items()))
    for name, codec in codecs.items():
        figures = []
        for text in cases.values():
            calls = max(1, 2_000_000 // len(text) // (20 if codec is by_json else 1))
            timer = timeit.Timer("codec(text)", globals={"codec": codec, "text": text})
            figures.append(min(timer.timeit(calls) for _ in range(ROUNDS)) / calls * 1e6)
        print(f"{name:<46}" + "".join(f"{figure:>9.1f}{'':7}" for figure in figures))
    print_worst()
