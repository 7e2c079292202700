"""Namespaces of Linux, in which a test has mounts or a network of its own, without being root."""

import shutil
import subprocess

import pytest


def namespace(*command: str) -> tuple[str, ...]:
    """`unshare` with what it is given, to be followed by a command. Skips the test where the system refuses that."""
    if shutil.which("unshare") is None:
        pytest.skip("only Linux has namespaces (the program unshare)")
    started = ("unshare", *command)
    done = subprocess.run([*started, "true"], check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"this system refuses a test a namespace of its own: {done.stderr.strip()}")
    return started
