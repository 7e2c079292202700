"""Client keys, changed through two processes' eyes in any order, against a model of a few lines."""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from effort import effort
from tokenferry.errors import Conflict, UnknownName
from tokenferry.state import State

NAMES = st.sampled_from(["laptop", "Laptop", "ci", "desk"])
SIDES = st.integers(0, 1)


@dataclass
class Modelled:
    id: str
    name: str
    secret: str = field(repr=False)
    admin: bool
    expires_at: int | None
    labels: dict[str, str]
    is_revoked: bool = False


class Keys(RuleBasedStateMachine):
    made = Bundle("made")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.now = 1_000
        self.sides = [self.open(), self.open()]
        self.model: list[Modelled] = []

    def open(self) -> State:
        # Half a second passes with each call: whatever was changed elsewhere counts at the next look.
        return State(Path(self.folder.name) / "home" / "state.db", monotonic=self.tick, now=lambda: self.now)

    def tick(self) -> float:
        self.ticks = getattr(self, "ticks", 0.0) + 0.5
        return self.ticks

    def teardown(self) -> None:
        for side in self.sides:
            side.close()
        self.folder.cleanup()

    def live(self, name: str) -> Modelled | None:
        found = (one for one in self.model if not one.is_revoked and one.name.lower() == name.lower())
        return next(found, None)

    @rule(
        target=made,
        side=SIDES,
        name=NAMES,
        admin=st.booleans(),
        life=st.none() | st.integers(1, 20),
        labels=st.dictionaries(st.sampled_from(["a", "b"]), st.text("xy"), max_size=2),
    )
    def create(self, side: int, name: str, *, admin: bool, life: int | None, labels: dict[str, str]) -> Modelled | None:
        keys = self.sides[side].keys
        expires_at = None if life is None else self.now + life
        if self.live(name) is not None:
            with pytest.raises(Conflict):
                keys.create(name, role="admin" if admin else "client", expires_at=expires_at, labels=labels)
            return None
        key, secret = keys.create(name, role="admin" if admin else "client", expires_at=expires_at, labels=labels)
        assert secret.reveal().startswith("tfa_" if admin else "tfk_")
        one = Modelled(key.id, name, secret.reveal(), admin, expires_at, labels)
        self.model.append(one)
        return one

    @rule(side=SIDES, name=NAMES)
    def revoke_by_name(self, side: int, name: str) -> None:
        one = self.live(name)
        if one is None:
            with pytest.raises(UnknownName):
                self.sides[side].keys.revoke(name)
        else:
            (key,) = self.sides[side].keys.revoke(name)
            assert key.id == one.id
            one.is_revoked = True

    @rule(side=SIDES, one=consumes(made))
    def revoke_by_id(self, side: int, one: Modelled | None) -> None:
        if one is not None and not one.is_revoked:
            self.sides[side].keys.revoke(one.id)
            one.is_revoked = True

    @rule(side=SIDES, old=NAMES, new=NAMES)
    def rename(self, side: int, old: str, new: str) -> None:
        one, other = self.live(old), self.live(new)
        keys = self.sides[side].keys
        if one is None:
            with pytest.raises(UnknownName):
                keys.rename(old, new)
        elif other is not None and other is not one:
            with pytest.raises(Conflict):
                keys.rename(old, new)
        else:
            assert keys.rename(old, new).id == one.id
            one.name = new

    @rule(side=SIDES, name=NAMES, value=st.none() | st.text("xy"))
    def label(self, side: int, name: str, value: str | None) -> None:
        if (one := self.live(name)) is not None:
            self.sides[side].keys.label(name, {"a": value})
            one.labels = {k: v for k, v in {**one.labels, "a": value}.items() if v is not None}

    @rule(seconds=st.integers(1, 10))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @rule(side=SIDES)
    def restart(self, side: int) -> None:
        self.sides[side].close()
        self.sides[side] = self.open()

    @rule(side=SIDES)
    def write_down_uses(self, side: int) -> None:
        self.sides[side].keys.record_use()

    @invariant()
    def each_side_takes_exactly_the_live_keys(self) -> None:
        for side in self.sides:
            sole = 0
            for one in self.model:
                key = side.keys.verify(one.secret)
                is_expired = one.expires_at is not None and one.expires_at <= self.now
                is_good = not (one.is_revoked or is_expired)
                assert (key is not None) is is_good
                assert (side.keys.expired(one.secret) is not None) is (is_expired and not one.is_revoked)
                if key is not None:
                    assert (key.id, key.name, key.admin, key.labels) == (one.id, one.name, one.admin, one.labels)
                    sole += not key.admin
            assert side.keys.is_sole() is (sole == 1)

    @invariant()
    def every_key_that_ever_was_is_listed(self) -> None:
        listed = {key.id: key.revoked_at is not None for key in self.sides[0].keys.list()}
        assert listed == {one.id: one.is_revoked for one in self.model}


Keys.TestCase.settings = settings(max_examples=effort(40), stateful_step_count=30, deadline=None)
TestKeys = Keys.TestCase
