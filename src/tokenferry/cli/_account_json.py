"""`--json` of commands that change an account: the account as it is then, and every sentence on stderr."""

import contextlib
from collections.abc import Iterator

from tokenferry.cli._describe import row
from tokenferry.cli._home import open_broker
from tokenferry.cli._output import say_json, sentences_on_stderr


@contextlib.contextmanager
def account_json(name: str, *, wanted: bool) -> Iterator[None]:
    """Within the block sentences go to stderr if JSON is `wanted`; the account follows on stdout when it went well."""
    with sentences_on_stderr(wanted=wanted):
        yield
    if wanted:
        say_json(row(open_broker(), name).to_json())
