"""Who is signed in: a list, and an end."""

from admin.rig import Api
from dashboard.person import Person

SESSIONS = "/dashboard/sessions"


def test_an_admin_sees_every_session_and_ends_another(api: Api, boss: Person) -> None:
    _, key = api.state.keys.create("looker", role="viewer")
    other = Person(api)
    other.sign_in(key.reveal())
    page = boss.open(SESSIONS).text
    assert "looker" in page
    assert "this browser" in page
    [looker] = [one for one in api.state.sessions.list() if one.name == "looker"]
    done = boss.act(SESSIONS, f"{SESSIONS}/{looker.id}/end")
    assert "The session of looker has ended." in done.text
    assert other.open("/dashboard/").status_code == 401
    line = api.audit()[-1]
    assert (line["action"], line["name"], line["client"]) == ("session.end", "looker", "boss")


def test_the_others_see_their_own_alone(api: Api, boss: Person) -> None:
    assert boss.open("/dashboard/").status_code == 200
    _, key = api.state.keys.create("looker", role="viewer")
    viewer = Person(api)
    viewer.sign_in(key.reveal())
    page = viewer.open(SESSIONS).text
    assert "looker" in page
    assert "<strong>boss</strong>" not in page


def test_the_end_of_an_earlier_session_is_reported(boss: Person) -> None:
    token = boss.open(SESSIONS).text.partition('name="csrf" value="')[2].partition('"')[0]
    answer = boss.post(f"{SESSIONS}/session_0/end", {"csrf": token})
    assert answer.status_code == 404
    assert "That session has ended already." in answer.text
