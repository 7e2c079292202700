"""Shares out among a run's workers what pytest makes of test files: else each of them rewrites every file by itself.

All workers collect in the same order at the same time, so that none would find what another one has written.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from _pytest.assertion.rewrite import PYC_TAIL, _read_pyc, _rewrite_test, _write_pyc, assertstate_key, get_cache_dir


def rewrite(files: Sequence[Path], config: pytest.Config) -> None:
    """Write the byte code that pytest imports in place of these test files, of those for which there is none yet."""
    state = config.stash[assertstate_key]
    for file in () if sys.dont_write_bytecode else files:
        folder = get_cache_dir(file)
        compiled = folder / (file.stem + PYC_TAIL)
        if _read_pyc(file, compiled) is None:
            source_hash, code = _rewrite_test(file, config)
            folder.mkdir(exist_ok=True)
            _write_pyc(state, code, source_hash, compiled)
