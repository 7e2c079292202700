from typing import Annotated

import typer

from tokenferry.cli._status import show_status
from tokenferry.cli._typer import JSON, WIDE, examples, new_app

app = new_app()


@app.command(
    "status",
    epilog=examples(
        "tokenferry status",
        "tokenferry status --watch",
        "tokenferry status --json | jq .gateway",
    ),
)
def status(
    *,
    watch: Annotated[
        bool, typer.Option("--watch", help="Keep the view up to date until q; with --json print a line per change.")
    ] = False,
    wide: WIDE = False,
    as_json: JSON = False,
) -> None:
    """Show the accounts, the gateway, the policy and the cooldowns.

    Warnings about the configuration go to stderr.
    """
    if watch:
        from tokenferry.cli._live import watch_status  # noqa: PLC0415  # a full screen, for this option alone

        watch_status(as_json=as_json)
    else:
        show_status(wide=wide, as_json=as_json)
