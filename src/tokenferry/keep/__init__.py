"""Keeps logins alive that nobody asks for: renewed in time, their profiles in step, one keeper a home."""

from tokenferry.keep._alive import keeper_of
from tokenferry.keep._event import Event
from tokenferry.keep._keeper import Keeper
from tokenferry.keep._schedule import Moment, Renewal, Schedule, next_renewal

__all__ = ["Event", "Keeper", "Moment", "Renewal", "Schedule", "keeper_of", "next_renewal"]
