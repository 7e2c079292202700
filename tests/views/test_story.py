"""A request's story says where its time went."""

from tokenferry.state import Decision
from tokenferry.views import story_lines

ASKED = {"client": "laptop", "method": "POST", "path": "/v1/messages", "status": 200, "ms": 9000}


def test_a_wait_has_a_line_of_its_own_and_the_providers_time_is_said_apart() -> None:
    """A decision of an older version has no reason for its wait."""
    steps = [
        {"ms": 0, "what": "queued"},
        {"ms": 3200, "what": "tried", "account": "alice", "why": "it was the first with capacity"},
        {"ms": 3300, "what": "answered", "account": "alice", "status": 529, "means": "overloaded", "plan": "again"},
        {"ms": 3300, "what": "tried", "account": "alice", "why": "it comes first in order", "wait_ms": 700},
        {"ms": 9000, "what": "served", "account": "alice"},
    ]
    told = [line for line in story_lines(Decision("tf_1", 1, ASKED | {"steps": steps})) if line[0].startswith("+")]
    assert told == [
        ("+0 ms", "waits 3.2 s: every account has as many requests as it may have"),
        ("+3200 ms", "alice: it was the first with capacity"),
        ("+3300 ms", "alice answered 529: overloaded; once more in place (the provider took 100 ms)"),
        ("+3300 ms", "waits 700 ms: before the next attempt"),
        ("+4000 ms", "alice: once more"),
        ("+9000 ms", "alice answered 200, which went to the client (the provider took 5.0 s)"),
    ]
