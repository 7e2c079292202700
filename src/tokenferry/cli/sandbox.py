from pathlib import Path
from typing import Annotated

import typer

from tokenferry.cli._output import say_lines
from tokenferry.cli._typer import examples, new_app
from tokenferry.sandbox import DEFAULT_PORT
from tokenferry.sandbox import serve as serve_sandbox

app = new_app()


@app.command(
    "sandbox",
    epilog=examples(
        "tokenferry sandbox",
        "curl -s 'http://127.0.0.1:13457/_sandbox/issue?account=dave&kind=api-key&plain=1' |",
        "  tokenferry account add dave --provider sandbox",
    ),
)
def sandbox(
    *,
    port: Annotated[
        int, typer.Option("--port", metavar="PORT", min=0, max=65535, help="The port; 0 takes a free one.")
    ] = DEFAULT_PORT,
    port_file: Annotated[
        Path | None, typer.Option("--port-file", metavar="FILE", help="Write the port to this file once it listens.")
    ] = None,
) -> None:
    """Run a fake provider on this machine, for experiments and tests, until Ctrl-C or TERM."""
    serve_sandbox(port=port, port_file=port_file, ready=_tell)


def _tell(url: str) -> None:
    lines = [f"the sandbox listens on {url}; it is a fake, and nothing in it is worth stealing"]
    if not url.endswith(f":{DEFAULT_PORT}"):
        lines += ["put this into config.toml first, with tokenferry config edit:"]
        lines += ["  [[providers]]", '  name = "sandbox"', f'  base_url = "{url}"']
    lines += [
        "add an account of it with:",
        f"  curl -s '{url}/_sandbox/issue?account=dave&kind=api-key&plain=1' |",
        "    tokenferry account add dave --provider sandbox",
        f"for more: curl {url}/_sandbox/",
    ]
    say_lines(lines)
