"""Where libraries are missing, the command says what to install."""

import subprocess
import sys

import pytest
from cli_process import assert_fails


@pytest.mark.parametrize(
    ("library", "arguments", "extra"),
    [
        ("typer", "--help", "waitd[client]"),
        ("aiohttp", "list", "waitd[server]"),
        ("sqlalchemy", "serve", "waitd[server]"),
        ("uvloop", "demo --airflow", "waitd[server]"),
    ],
)
def test_a_missing_library_is_one_sentence(library: str, arguments: str, extra: str) -> None:
    program = (
        f"import sys; sys.modules[{library!r}] = None; sys.argv[1:] = {arguments.split()}\n"
        "from waitd.__main__ import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert_fails(done, 2, f"there is no {library}", f"pip install '{extra}'")
    assert done.stderr.count("\n") == 1
