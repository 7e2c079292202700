from typing import Annotated

import typer

from tokenferry.cli._home import open_broker
from tokenferry.cli._output import note, say
from tokenferry.cli._typer import examples, new_app
from tokenferry.errors import UsageError

app = new_app()


@app.command(
    "unpublish",
    epilog=examples(
        "tokenferry unpublish work",
        "tokenferry unpublish --profile default",
        "tokenferry unpublish --gateway",
    ),
)
def unpublish(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="The account.", show_default=False)] = None,
    *,
    profile: Annotated[str | None, typer.Option("--profile", metavar="P", help="This profile alone.")] = None,
    gateway: Annotated[bool, typer.Option("--gateway", help="The gateway's profile.")] = False,
) -> None:
    """Remove the profiles that an account was published as.

    What somebody else changed since is left, and told of. The account itself stays.
    """
    if gateway and name:
        raise UsageError(f"account {name!r} and --gateway are two things; name one")
    if not (name or profile or gateway):
        raise UsageError("say what is not to be published any more: an account, --profile or --gateway")
    publisher = open_broker().publisher
    for publication in publisher.find(name, profile, gateway=gateway):
        left = publisher.unpublish([publication])
        say(f"unpublished profile {publication.profile} of {publication.source}")
        for sentence in left:
            note(sentence)
