"""Which account serves a request, and where it goes when that one can't. Nothing here reads, writes, waits or sends."""

from tokenferry.pool._choice import Choice, PassedOver
from tokenferry.pool._journey import Journey
from tokenferry.pool._member import Hop, Member, Roster, Want, affinity_key
from tokenferry.pool._pick import Headers, Pick
from tokenferry.pool._pool import Pool
from tokenferry.pool._probes import OF_CREDENTIALS
from tokenferry.pool._records import Change, Cleared, Learned, Noted, Records
from tokenferry.pool._rosters import roster_of
from tokenferry.pool._steps import Give, Queue, Refuse, Step, Try
from tokenferry.pool._story import Story

__all__ = [
    "OF_CREDENTIALS",
    "Change",
    "Choice",
    "Cleared",
    "Give",
    "Headers",
    "Hop",
    "Journey",
    "Learned",
    "Member",
    "Noted",
    "PassedOver",
    "Pick",
    "Pool",
    "Queue",
    "Records",
    "Refuse",
    "Roster",
    "Step",
    "Story",
    "Try",
    "Want",
    "affinity_key",
    "roster_of",
]
