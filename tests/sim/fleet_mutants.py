"""Journal, store and statements of a fleet with one safeguard taken out at a time."""

import inspect
import types
from typing import Any, Final

from msgspec import Struct

from sim.database import Rules
from sim.fleet import Code, FleetWeather
from sim.world import Weather
from tokenferry.fleet import _journal, _store


class Caught(Struct):
    """The seed of a schedule which passes, but not with that safeguard taken out, and its weather."""

    seed: int
    weather: Weather
    trouble: FleetWeather


_FAIR: Final = Weather()
_FAILOVER: Final = FleetWeather(failover=1.0)
MUTANTS: Final = {
    "records without comparing": Caught(1, _FAIR, FleetWeather(is_lockless=True)),
    "begins amid the hold-off": Caught(1, _FAIR, _FAILOVER),
    "renews by inserting": Caught(129, Weather(suspend=0.3, slow=1.0), FleetWeather(cut=0.5)),
    "records without the row's lock": Caught(1259, Weather(suspend=0.3), FleetWeather(is_lockless=True)),
    "publishes by generation alone": Caught(
        638, Weather(slow=1.0), FleetWeather(failover=1.0, login=1.0, longest_lag=60.0)
    ),
    "has locks lapse by the host's clock": Caught(2, Weather(slow=1.0), FleetWeather(skew=1.0)),
    "sends however late": Caught(489, Weather(suspend=0.3, slow=1.0), FleetWeather(is_lockless=True)),
    "drops the answer when it is published": Caught(0, _FAIR, _FAILOVER),
    "does not put answers forward": Caught(0, _FAIR, _FAILOVER),
}
_RULES: Final = {
    "records without comparing": Rules(compares=False),
    "begins amid the hold-off": Rules(holds_off=False),
    "renews by inserting": Rules(renew_inserts=True),
    "records without the row's lock": Rules(locks_row=False),
    "publishes by generation alone": Rules(compares_presented=False),
    "has locks lapse by the host's clock": Rules(lapses_by_host_clock=True),
}


def mutated(name: str) -> Code:
    """The code with that safeguard taken out."""
    if name == "drops the answer when it is published":
        kept = "is_over = noted is not None and noted.answer is None and noted.state"
        return Code(journal=_edited(_journal, "FleetJournal", kept, "is_over = noted is not None and noted.state"))
    if name == "sends however late":
        late = "if self._monotonic() - self._recorded_at[name] > _START_WITHIN:"
        return Code(journal=_edited(_journal, "FleetJournal", late, "if False:"))
    if name == "does not put answers forward":
        return Code(store=_edited(_store, "FleetStore", "for name in self._spill.accounts():", "for name in ():"))
    return Code(rules=_RULES[name])


def _edited(module: types.ModuleType, name: str, before: str, after: str) -> Any:
    """The class of that name after an edit of its source, which must apply exactly once."""
    source = inspect.getsource(module)
    assert source.count(before) == 1, f"the mutant no longer applies: {before}"
    made = types.ModuleType(module.__name__)
    exec(compile(source.replace(before, after), f"<{after}>", "exec"), made.__dict__)
    return getattr(made, name)
