import subprocess
import sys


def test_the_gateway_needs_neither_the_sandbox_nor_a_web_framework() -> None:
    program = (
        "import sys, tokenferry.serve;"
        "heavy = {'starlette', 'jinja2', 'anthropic'};"
        "print([name for name in sys.modules if name.partition('.')[0] in heavy"
        " or name.startswith('tokenferry.sandbox')])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
