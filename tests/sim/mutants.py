"""The flow with one safeguard taken out at a time, by an edit of its source that must apply exactly once."""

import inspect
import types
from typing import Final

from sim.world import FlowFactory
from tokenferry.refresh import _flow

MUTANTS: Final[dict[str, tuple[str, ...]]] = {
    "does not read again under the lock": (
        "result = yield from _under_lock(job, context, started)",
        "result = yield from _under_lock(job, context, started, document)",
        "started: float) -> Flow[Result]:\n    document: Document = yield effects.Read()\n",
        "started: float, document: Document) -> Flow[Result]:\n",
    ),
    "takes no lock": (
        "    holder: str | None = yield effects.Acquire(job.wait)\n",
        "    holder: str | None = None\n",
    ),
    "keeps no attempt on record": ("        yield effects.RecordAttempt(attempt, replaces)\n", "        pass\n"),
    "does not journal the answer": ("        yield effects.RecordAnswer(attempt, answer.token)\n", "        pass\n"),
    "ignores what an earlier attempt left": (
        "    attempt: RefreshAttempt | None = yield effects.ReadAttempt()\n    if attempt is None:\n",
        "    attempt: RefreshAttempt | None = None\n    if attempt is None:\n",
    ),
    "forgets the attempt before it publishes": (
        "    while True:\n        try:\n            yield effects.Publish(",
        "    yield effects.Close(attempt)\n    while True:\n        try:\n            yield effects.Publish(",
    ),
    "releases before it publishes": (
        "    while True:\n        try:\n            yield effects.Publish(",
        "    yield effects.Release()\n    while True:\n        try:\n            yield effects.Publish(",
    ),
    "closes an attempt whose answer was lost": (
        '        yield from _quietly(document, effects.Mark(attempt, "uncertain"))\n        if tries',
        "        yield from _quietly(document, effects.Close(attempt))\n        if tries",
    ),
    "retries an uncertain attempt while the access token lives": (
        "    if not nothing_to_lose:\n",
        "    if False:\n",
    ),
    "retries without a grace": (
        "if tries >= _MOST_TRIES or not _in_grace(context, attempt, endpoints):\n            break",
        "if tries >= _MOST_TRIES:\n            break",
    ),
    "does not wait before it retries": ("_SECOND_PRESENTATION: Final = 120.0", "_SECOND_PRESENTATION: Final = 0.0"),
    "counts what never left": ('    if attempt.state == "begun":', "    if False:"),
    "does not count what may have left": (
        '    if attempt.state == "begun":',
        '    if attempt.state in {"begun", "open"}:',
    ),
    "sends without a note": ("effects.Send(request, timeout, attempt)", "effects.Send(request, timeout)"),
    "forgets that a token was presented": (
        "effects.Close(attempt) if answer.knows_successor else effects.Mark(attempt, ",
        "effects.Close(attempt) if True else effects.Mark(attempt, ",
    ),
    "retries for ever": ("_MOST_TRIES: Final = 2", "_MOST_TRIES: Final = 9"),
    "forgets the first attempt when the retry is closed": (
        "_quietly(document, _withdrawn(attempt))\n    wait =",
        "_quietly(document, effects.Close(attempt))\n    wait =",
    ),
    "takes a server's trouble for the token's death": (
        "    assert isinstance(outcome, NotGranted)\n",
        '    yield effects.RecordFailure(RefreshFailure("needs-login", refresh.sha256, now, outcome.reason))\n'
        '    raise NeedsLogin("dead")\n',
    ),
    "overwrites what another program wrote": (
        "            if _refresh_digest(document) != attempt.token:  # a new login: never overwrite it\n",
        "            if False:\n",
    ),
    "grants anew while a renewed token waits to be written": (
        "            if not kept.published and not job.is_satisfied_by(kept.document, context.now()):\n",
        "            if False:\n",
        "        yield effects.RecordAttempt(attempt, replaces)\n",
        "        recorded = yield effects.ReadAttempt()\n"
        "        yield effects.RecordAttempt(attempt, recorded and recorded.id)\n",
    ),
    "gives up the lock to nobody": (
        "    yield effects.Release()\n    return result\n",
        "    return result\n",
    ),
}


BESIDE: Final[dict[str, tuple[str, ...]]] = {
    "refreshes though the access token lives": ("        _check_claude_code(job, token, context)\n", "        pass\n"),
    "waits longer than Claude Code does": ("        timeout = min(timeout, _CLAUDE_CODE_TIMEOUT)\n", "        pass\n"),
    "does not look whether its locks hold": ("    if not (yield effects.StillHeld()):", "    if False:"),
    "releases before it sends": (
        "    transmission = yield effects.Send(",
        "    yield effects.Release()\n    transmission = yield effects.Send(",
    ),
}
"""Those of what is done for Claude Code's chain alone."""

BESIDE_TOO: Final = (
    "does not read again under the lock",
    "takes no lock",
    "ignores what an earlier attempt left",
    "releases before it publishes",
    "retries for ever",
    "overwrites what another program wrote",
)
"""Those above that Claude Code as a neighbour shows as well."""


def mutated_flow(name: str) -> FlowFactory:
    """Give `refresh_flow` of a module whose source had these edits: pairs of what stood there and what stands now."""
    source = inspect.getsource(_flow)
    edits = (MUTANTS | BESIDE)[name]
    for before, after in zip(edits[::2], edits[1::2], strict=True):
        assert source.count(before) == 1, f"the mutant no longer applies: {name}"
        source = source.replace(before, after)
    module = types.ModuleType(_flow.__name__)
    exec(compile(source, f"<{name}>", "exec"), module.__dict__)
    flow: FlowFactory = module.refresh_flow
    return flow
