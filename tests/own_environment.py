"""Python environments for programs that tests need and whose dependencies differ from waitd's.

Each is created once per set of pins and kept in the checkout's `.cache`, or in WAITD_TEST_CACHE.
Creating one takes a minute or two.
"""

import hashlib
import os
import sys
from pathlib import Path

from installation import not_installable

from waitd.bench.environments import PipFailed, ensure_environment

ROOT = Path(__file__).parents[1]


def own_environment(pins: Path) -> Path:
    """The directory of the environment with exactly the pinned requirements.

    Without a package index the test is skipped, or fails on CI.
    """
    cache = Path(os.environ.get("WAITD_TEST_CACHE") or ROOT / ".cache").absolute()
    key = hashlib.sha256(pins.read_bytes() + sys.version.encode() + str(cache).encode()).hexdigest()[:12]
    environment = cache / f"{pins.stem}-{key}"
    try:
        return ensure_environment(environment, pins)
    except PipFailed as error:
        not_installable(f"pip cannot install {pins}: {' '.join(str(error).splitlines())}")
