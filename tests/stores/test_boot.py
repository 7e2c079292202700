import subprocess
import sys

from tokenferry.stores import boot_id


def test_every_process_of_this_boot_has_the_same_one() -> None:
    script = "from tokenferry.stores import boot_id; print(boot_id())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == boot_id() != ""
