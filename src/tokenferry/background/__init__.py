"""Threads that work now and then, work that others wait for, watched files, and what a forked child has to reset."""

from tokenferry.background._files import FileWatcher, Stamp, file_stamp
from tokenferry.background._fork import after_fork_in_child
from tokenferry.background._pending import Pending
from tokenferry.background._periodic import PeriodicThread

__all__ = [
    "FileWatcher",
    "Pending",
    "PeriodicThread",
    "Stamp",
    "after_fork_in_child",
    "file_stamp",
]
