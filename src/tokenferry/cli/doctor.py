from typing import Annotated

import typer

from tokenferry.cli._checks import examine
from tokenferry.cli._output import note, say, say_json, say_lines
from tokenferry.cli._table import folded
from tokenferry.cli._typer import JSON, examples, new_app
from tokenferry.settings import Home

app = new_app()


@app.command(
    "doctor",
    epilog=examples(
        "tokenferry doctor",
        "tokenferry doctor --json | jq -r '.[].cure'",
        "tokenferry doctor --bundle > report.json      for an issue",
    ),
)
def doctor(
    *,
    as_json: JSON = False,
    bundle: Annotated[
        bool, typer.Option("--bundle", help="Print a JSON report for an issue, without secrets or names.")
    ] = False,
) -> int:
    """Find problems, and print the command that fixes each.

    Checks files, configuration, accounts, clock, port and environment, and changes nothing. The exit code is 1 if it
    found a problem, else 0.

    A request that no account can serve is a problem if a gateway runs, a client has a key, or the configuration has
    routes; else it is a note.
    """
    home = Home.from_environment()
    found = examine(home)
    findings = [finding for finding in found if not finding.is_note]
    if bundle:
        from tokenferry.cli import _bundle  # noqa: PLC0415  # only this option needs it

        say_json(_bundle.bundle(home, found))
        return 1 if findings else 0
    if as_json:
        say_json([{"what": one.what, "where": one.where, "cure": one.cure} for one in findings])
        return 1 if findings else 0
    if not findings:
        say(f"no problem was found in {home.path}")
    for finding in findings:
        # The cure stays on one line, so that its command can be copied.
        say_lines((*folded(f"{finding.where}: {finding.what}", 2), f"  cure: {finding.cure}"))
    for finding in found:
        if finding.is_note:
            note(f"{finding.where}: {finding.what}; cure: {finding.cure}")
    return 1 if findings else 0
