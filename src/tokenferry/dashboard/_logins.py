"""Logging in: the choice of provider, its page, the pasted code, and the code for another device."""

from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

from tokenferry.actions import secret_of, state_own_use, withdraw_own_use
from tokenferry.dashboard._views import ADMINS, FormAction, Redirect, Shown, Variables, View
from tokenferry.dashboard._visit import Visit, sentence
from tokenferry.errors import LoginFailed, PolicyRefused, TokenferryError, UsageError
from tokenferry.policy_statement import MEANING, TERMS
from tokenferry.providers import is_loopback
from tokenferry.state import StartedLogin


def pending(visit: Visit) -> Sequence[StartedLogin]:
    """Return this session's logins that wait for a code; the latest of each account."""
    if not visit.may_change:
        return ()
    latest = {(one.provider, one.account): one for one in visit.service.pending(visit.session)}
    return tuple(latest.values())


def _page(visit: Visit) -> Variables:
    offers = visit.service.offers()
    return {
        "heading": "Log in",
        "offers": offers,
        "pending": pending(visit),
        "policy": visit.context.broker.policy,
        "may_state": _may_state(visit),
        "meaning": " ".join(MEANING),
        "terms": TERMS,
    }


def _may_state(visit: Visit) -> bool:
    """Whether the visitor is at this machine: signed in by `tokenferry dashboard`, and not from elsewhere."""
    session = visit.session
    return session.is_admin and session.way == "command" and (not session.address or is_loopback(session.address))


def _state(visit: Visit) -> Redirect:
    if not _may_state(visit):
        raise PolicyRefused(
            "only the person at this machine makes the statement; sign in with: tokenferry dashboard; or state it "
            "with: tokenferry policy set own-use"
        )
    if visit.form.get("mine") != "yes" or visit.form.get("read") != "yes":
        raise UsageError("nothing was recorded; tick both halves of the statement if they are true")
    return Redirect("/dashboard/login", sentence(state_own_use(visit.context, visit.session).message))


def _withdraw(visit: Visit) -> Redirect:
    return Redirect("/dashboard/login", sentence(withdraw_own_use(visit.context, visit.session).message))


login_view: Final = View("/login", "login.html", _page, roles=ADMINS)


def login_actions(account: View) -> tuple[FormAction, ...]:
    """Return the actions of login forms; those of one account show its page again if they fail."""
    return (
        FormAction("/login", _begin, login_view),
        FormAction("/login/device", _begin_device, login_view),
        FormAction("/login/finish", _finish, login_view),
        FormAction("/login/statement", _state, login_view),
        FormAction("/login/statement/withdraw", _withdraw, login_view),
        FormAction("/accounts/{name}/login", _again, account),
        FormAction("/accounts/{name}/login/device", _again_by_device, account),
    )


def _begin(visit: Visit) -> Shown:
    return _lead(visit, visit.form.get("provider", ""), visit.form.get("account", "").strip() or None)


def _again(visit: Visit) -> Shown:
    """Start a login for an account: by browser, or by a code if its provider knows no other way."""
    name = visit.path["name"]
    provider = visit.context.broker.book.read(name).account.provider
    is_by_device = any(one.provider == provider and not one.is_by_browser for one in visit.service.offers())
    return (_show_code if is_by_device else _lead)(visit, provider, name)


def _lead(visit: Visit, provider: str, account: str | None) -> Shown:
    """Start a login, and take the tab that was opened for it to the provider.

    The page navigates, since browsers apply `form-action` to redirects that follow a form.
    """
    begun = visit.service.begin(provider, visit.session, account)
    return Shown(
        "leading.html",
        {
            "provider": begun.provider.name,
            "url": begun.login_url or begun.url,
            "comes_back": begun.login_url is not None,
            "minutes": begun.expires_in // 60,
        },
    )


def _begin_device(visit: Visit) -> Shown:
    return _show_code(visit, visit.form.get("provider", ""), visit.form.get("account", "").strip() or None)


def _again_by_device(visit: Visit) -> Shown:
    name = visit.path["name"]
    return _show_code(visit, visit.context.broker.book.read(name).account.provider, name)


def _show_code(visit: Visit, provider: str, account: str | None) -> Shown:
    sessions, id_ = visit.context.state.sessions, visit.session.id
    code = visit.service.begin_device(
        provider, visit.session, account, ended=lambda sentence: sessions.leave_notice(id_, sentence)
    )
    return Shown("device.html", {"provider": provider, "account": account, "code": code})


def _finish(visit: Visit) -> Redirect:
    pasted = secret_of(visit.form.get("code", ""))
    if pasted is None:
        raise LoginFailed(
            "the code can't be read; paste the whole code as the page shows it, or the address of that page"
        )
    try:
        stored = visit.service.exchange(pasted, visit.form.get("account", "").strip() or None, visit.session)
    except TokenferryError as fault:
        raise type(fault)(str(fault).replace("begin again with: POST /api/oauth/authorize", "log in again")) from None
    who = f" as {stored.token.email}" if stored.token.email else ""
    what = f"account {stored.name} was {'updated' if stored.has_replaced else 'stored'}"
    following = "" if stored.has_replaced else "?added=1"
    return Redirect(f"/dashboard/accounts/{quote(stored.name, safe='')}{following}", f"Logged in{who}: {what}.")
