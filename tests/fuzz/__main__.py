"""`make fuzz`: a coverage-guided fuzzer on each target, or on those named, for SECONDS each (60 by default).

What breaks a target is written into fuzz/found; new inputs that reach new code are thrown away with the folder.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent
SEEDS = FOLDER / "corpus"


def main(names: list[str]) -> int:
    seconds = os.environ.get("SECONDS", "60")
    failed = []
    for name in names:
        with tempfile.TemporaryDirectory() as grown:
            found = FOLDER / "found" / name
            found.mkdir(parents=True, exist_ok=True)
            command = [sys.executable, "-m", "fuzz", "--one", name, grown, str(SEEDS / name)]
            options = [f"-max_total_time={seconds}", f"-artifact_prefix={found}/", "-timeout=10", "-max_len=4096"]
            done = subprocess.run([*command, *options, "-print_final_stats=1"], cwd=FOLDER.parent, check=False)
            if done.returncode:
                failed.append(name)
    sys.stdout.write(f"{len(names) - len(failed)} passed, {len(failed)} failed\n")
    return bool(failed)


def fuzz(name: str, arguments: list[str]) -> None:
    import atheris  # noqa: PLC0415  # of `make fuzz` alone

    with atheris.instrument_imports(include=["tokenferry"]):
        from fuzz.targets import run  # noqa: PLC0415  # instrumented
    atheris.Setup([sys.argv[0], *arguments], lambda data: run(name, data))
    atheris.Fuzz()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        fuzz(sys.argv[2], sys.argv[3:])
    else:
        sys.exit(main(sys.argv[1:] or sorted(one.name for one in SEEDS.iterdir())))
