import json
import logging
import os
import stat
import threading

import pytest

from tokenferry.audit import changes_of, note_change
from tokenferry.settings import Home


def entries(home: Home) -> list[dict[str, object]]:
    return [json.loads(line) for line in home.audit.read_text().splitlines()]


def test_changes_are_appended_to_a_private_file(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "tokenferry.audit"):
        note_change(home, "key.create", "laptop", id="key_1", admin=False, fingerprint="0123abcd")
        note_change(home, "account.remove", "work", provider=None)
    first, second = entries(home)
    assert (first["action"], first["name"], first["id"], first["admin"]) == ("key.create", "laptop", "key_1", False)
    assert first["uid"] == os.getuid()
    assert isinstance(first["time"], int)
    assert (second["action"], second["name"], "provider" in second) == ("account.remove", "work", False)
    assert stat.S_IMODE(home.audit.stat().st_mode) == 0o600
    assert "laptop" in caplog.messages[0]


@pytest.mark.parametrize("name", ["a\nb", '"', "\x1b[31m", "⛴"])
def test_a_line_is_one_line_whatever_the_name(home: Home, name: str) -> None:
    note_change(home, "account.use", name)
    assert [entry["name"] for entry in entries(home)] == [name]
    assert home.audit.read_text().rstrip("\n").isprintable()


def test_lines_of_many_writers_do_not_mix(home: Home) -> None:
    def write(who: int) -> None:
        for number in range(50):
            note_change(home, "account.use", f"{who}-{number}" + "x" * 2000)

    threads = [threading.Thread(target=write, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(entries(home)) == 200


def refuse_by_mode(home: Home) -> None:
    home.audit.touch(0o644)
    home.audit.chmod(0o644)


def refuse_by_link(home: Home) -> None:
    home.audit.symlink_to(home.path / "elsewhere")


def refuse_by_pipe(home: Home) -> None:
    os.mkfifo(home.audit, 0o600)


@pytest.mark.parametrize("obstacle", [refuse_by_mode, refuse_by_link, refuse_by_pipe])
def test_what_can_not_be_written_down_is_a_warning(
    home: Home, caplog: pytest.LogCaptureFixture, obstacle: object
) -> None:
    assert callable(obstacle)
    obstacle(home)
    note_change(home, "account.use", "work")
    assert "the change was made, but could not be recorded" in caplog.text
    assert str(home.audit) in caplog.text
    assert not (home.path / "elsewhere").exists()


def test_the_home_is_made_if_it_is_missing(home: Home) -> None:
    home.path.rmdir()
    note_change(home, "account.use", "work")
    assert len(entries(home)) == 1


def test_the_latest_changes_of_an_account_are_read_and_no_keys(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    assert changes_of(home, "work") == []
    for number in range(30):
        note_change(home, "account.set", "work", client="boss", priority=number)
    note_change(home, "key.create", "work", id="key_1")
    note_change(home, "account.pause", "work", paused_until=4_000_000_000)
    note_change(home, "account.pause", "other")
    with home.audit.open("a") as file:
        file.write('{"name": "work"\n{"name": "work", "action": 1}\n')
    found = changes_of(home, "work")
    assert [(one.action, one.by, dict(one.details)) for one in found[:2]] == [
        ("account.pause", "", {"paused_until": "4000000000"}),
        ("account.set", "boss", {"priority": "29"}),
    ]
    assert len(found) == 20
    monkeypatch.setattr("tokenferry.audit._READ", 300)
    assert changes_of(home, "work")[0].action == "account.pause", "a line that is cut is left out"
