from tokenferry.cli._describe import COLUMNS, cells, rows
from tokenferry.cli._home import open_broker
from tokenferry.cli._output import say_lines
from tokenferry.cli._table import table

_FIRST = """\
tokenferry keeps the credentials of LLM APIs: log in once, and every program gets a token that works.

There is no account yet. See what is on this machine, and be asked about each key, login and tool:
  tokenferry setup

Or add an account, with the key on stdin or at a prompt:
  tokenferry account add work --provider anthropic

Or try it without one, against a fake provider on this machine:
  tokenferry sandbox

All commands: tokenferry --help"""

_NEXT = """
Print a token:        tokenferry token [NAME]
Run a program:        tokenferry run -- claude
Serve all programs:   tokenferry serve
All commands:         tokenferry --help"""


def welcome() -> None:
    """Print the accounts, and the next steps."""
    found = rows(open_broker())
    if not found:
        say_lines(_FIRST.splitlines())
        return
    table(COLUMNS, [cells(one) for one in found])
    say_lines(_NEXT.splitlines())
