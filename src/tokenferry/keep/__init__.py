"""Keeps logins alive that nobody asks for: renewed in time, their profiles in step, one keeper a home."""

from tokenferry.keep._alive import keeper_of
from tokenferry.keep._event import RenewalEvent
from tokenferry.keep._keeper import Keeper
from tokenferry.keep._schedule import Moment, Renewal, Schedule, next_renewal

__all__ = ["Keeper", "Moment", "Renewal", "RenewalEvent", "Schedule", "keeper_of", "next_renewal"]
