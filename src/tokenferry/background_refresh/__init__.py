"""Renews logins before they expire though no program asks for them, and updates their published profiles."""

from tokenferry.background_refresh._alive import renewer_of
from tokenferry.background_refresh._event import RenewalEvent
from tokenferry.background_refresh._renewer import Renewer
from tokenferry.background_refresh._schedule import Moment, Renewal, Schedule, next_renewal

__all__ = ["Moment", "Renewal", "RenewalEvent", "Renewer", "Schedule", "next_renewal", "renewer_of"]
