from tokenferry.cli._complete import AccountName
from tokenferry.cli._decision import decision
from tokenferry.cli._home import find, open_broker
from tokenferry.cli._output import say_json, say_lines
from tokenferry.cli._typer import JSON, examples, new_app

app = new_app()


@app.command(
    "account", epilog=examples("tokenferry explain account work", "tokenferry explain account work --json | jq .steps")
)
def account(
    name: AccountName,
    *,
    as_json: JSON = False,
) -> None:
    """Show how tokenferry uses an account: whether it may, when it refreshes, and what it waits for."""
    home, config = find()
    found = decision(open_broker(home, config), home, name)
    if as_json:
        say_json(found.to_json())
    else:
        say_lines(found.lines())
