from tokenferry.refresh._engine import Flight, RefreshEngine, RefreshStatistics
from tokenferry.refresh._flow import Job, Result, World, refresh_flow, seconds_left, window
from tokenferry.refresh._journal import Attempt, FileJournal, Journal, MemoryJournal, Verdict
from tokenferry.refresh._process import ProcessIdentity
from tokenferry.refresh._send import send

__all__ = [
    "Attempt",
    "FileJournal",
    "Flight",
    "Job",
    "Journal",
    "MemoryJournal",
    "ProcessIdentity",
    "RefreshEngine",
    "RefreshStatistics",
    "Result",
    "Verdict",
    "World",
    "refresh_flow",
    "seconds_left",
    "send",
    "window",
]
