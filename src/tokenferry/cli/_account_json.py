"""`--json` of commands that change an account: the changed account on stdout, sentences on stderr."""

import contextlib
from collections.abc import Iterator

from tokenferry.cli._describe import row
from tokenferry.cli._home import find, open_broker
from tokenferry.cli._output import say_json, sentences_on_stderr
from tokenferry.readiness import limits_of


@contextlib.contextmanager
def account_json(name: str, *, wanted: bool) -> Iterator[None]:
    """Send the block's sentences to stderr if JSON is `wanted`; then print the account, unless the block raised."""
    with sentences_on_stderr(wanted=wanted):
        yield
    if wanted:
        say_account(name)


def say_account(name: str) -> None:
    """Print the account as JSON, without its secrets."""
    home, config = find()
    broker = open_broker(home, config)
    say_json(row(broker, name).to_json() | {"limits": limits_of(config, broker.book.read(name).account)})
