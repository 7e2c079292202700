"""Threads that work now and then, files that are watched, and what a forked child has to reset."""

from tokenferry.background._files import FileWatcher, Stamp, file_stamp
from tokenferry.background._fork import after_fork_in_child
from tokenferry.background._periodic import PeriodicThread

__all__ = [
    "FileWatcher",
    "PeriodicThread",
    "Stamp",
    "after_fork_in_child",
    "file_stamp",
]
