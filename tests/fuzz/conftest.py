"""How long a fuzz target runs, and how a failed round is repeated."""

import gc
import os
from collections.abc import Generator

import pytest
from fuzzing import Fuzz

#: How long each target runs in the everyday suite, in seconds.
SECONDS = 3.0
_FUZZ = pytest.StashKey[Fuzz]()


@pytest.fixture(autouse=True)
def _frozen_objects() -> Generator[None]:
    """As in the daemon, the garbage collector does not walk through what was there before."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def fuzz(request: pytest.FixtureRequest) -> Fuzz:
    """The rounds of the target: `for random in fuzz.rounds(): …`."""
    seed = os.environ.get("WAITD_FUZZ_SEED")
    fuzz = Fuzz(float(os.environ.get("WAITD_FUZZ_SECONDS", SECONDS)), None if seed is None else int(seed))
    request.node.stash[_FUZZ] = fuzz
    return fuzz


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds to a failure how to repeat its round."""
    report = yield
    fuzz = item.stash.get(_FUZZ, None)
    if fuzz is not None and report.when == "call":
        again = f"WAITD_FUZZ_SEED={fuzz.seed} python -m pytest '{item.nodeid}'"
        report.sections.append(("fuzz", f"round {fuzz.count}; repeat it with\n{again}"))
    return report
