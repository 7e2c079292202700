from typing import Annotated, Final

import typer

from tokenferry.audit import note_change
from tokenferry.broker import Revocation
from tokenferry.cli._complete import AccountName
from tokenferry.cli._home import open_broker, tell_default_provider
from tokenferry.cli._output import outcome_json, say
from tokenferry.cli._revocation import tell_revocation
from tokenferry.cli._typer import JSON, examples, new_app
from tokenferry.errors import UsageError
from tokenferry.settings import Home

app = new_app()

_NO_LOGINS: Final = {"federated": "is a workload's", "exchanged": "holds a token that is exchanged"}


@app.command("logout", epilog=examples("tokenferry logout work", "tokenferry logout work --keep-remote"))
def logout(
    name: AccountName,
    *,
    keep_remote: Annotated[bool, typer.Option("--keep-remote", help="Don't revoke the login at the provider.")] = False,
    as_json: JSON = False,
) -> None:
    """Revoke an account's login at its provider, and remove the account.

    If the provider can't be reached, the account is removed anyway, and the command says that the login is still valid.
    """
    broker = open_broker()
    account = broker.book.read(name).account
    if account.store == "file" and account.kind != "oauth":
        what = _NO_LOGINS.get(account.kind, f"holds an {account.kind}")
        raise UsageError(
            f"account {name!r} {what}, which has no logout; remove it with: tokenferry "
            f"account remove {name}, and revoke it where it was issued"
        )
    if account.store != "file" or account.owner != "tokenferry":
        whose = account.store if account.store != "file" else account.owner
        raise UsageError(
            f"account {name!r} is the login of {whose}, which alone ends it; to forget the account here use: "
            f"tokenferry account remove {name}"
        )
    with outcome_json(wanted=as_json) as document:
        revocation = Revocation() if keep_remote else broker.revoke(name)
        default = broker.remove(name)
        done = revocation.is_done
        note_change(Home.from_environment(), "account.logout", name, revoked=done, default_provider=default)
        tell_revocation(revocation)
        say(f"logged out of account {name}" if done else f"removed account {name}")
        tell_default_provider(default)
        document |= {"removed": name, "revoked": revocation.is_done}
