from tokenferry.cli._checks import examine
from tokenferry.cli._output import note, say, say_json, say_lines
from tokenferry.cli._typer import JSON, examples, new_app
from tokenferry.settings import Home

app = new_app()


@app.command(
    "doctor",
    epilog=examples(
        "tokenferry doctor",
        "tokenferry doctor --json | jq -r '.[].cure'",
    ),
)
def doctor(
    *,
    as_json: JSON = False,
) -> int:
    """Look for what is wrong, and say what mends it.

    Files, configuration, accounts, clock, port and environment are looked at. Nothing is mended.
    The exit code is 0 when nothing was found, else 1. What no account serves is a finding where service is expected: a
    gateway runs, a client has a key, or the configuration routes; else a note.
    """
    home = Home.from_environment()
    found = examine(home)
    findings = [finding for finding in found if not finding.is_note]
    if as_json:
        say_json([{"what": one.what, "where": one.where, "cure": one.cure} for one in findings])
        return 1 if findings else 0
    if not findings:
        say(f"nothing wrong was found in {home.path}")
    for finding in findings:
        say_lines((f"{finding.where}: {finding.what}", f"  cure: {finding.cure}"))
    for finding in found:
        if finding.is_note:
            note(f"{finding.where}: {finding.what}; cure: {finding.cure}")
    return 1 if findings else 0
