"""Environments of their own for what tests need and whose dependencies are not waitd's: made once for each set of pins, and kept.

They lie in `.cache` of the checkout, or where WAITD_TEST_CACHE says. Making one takes a minute or two, finding it nothing.
"""

import hashlib
import os
import sys
from pathlib import Path

import pytest

from waitd.bench.environments import PipFailed, ensure_environment

ROOT = Path(__file__).parents[1]


def own_environment(pins: Path) -> Path:
    """The directory of the environment that holds exactly what a file of requirements pins. Without an index of packages the test is skipped."""
    cache = Path(os.environ.get("WAITD_TEST_CACHE") or ROOT / ".cache").absolute()
    key = hashlib.sha256(pins.read_bytes() + sys.version.encode() + str(cache).encode()).hexdigest()[:12]
    environment = cache / f"{pins.stem}-{key}"
    try:
        return ensure_environment(environment, pins)
    except PipFailed as error:
        pytest.skip(f"pip could not install {pins}: {' '.join(str(error).splitlines())}")
