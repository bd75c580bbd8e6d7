"""Hooks for all tests: their order, and which tests share a process."""

import os
import signal
from collections import Counter
from typing import Any

import hypothesis
import pytest

# A test has no deadline: how long it takes says more about the machine than about the code.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

#: The tests below this folder share one real Airflow, which takes half a minute to start.
AIRFLOW = "tests/e2e/airflow/"


def pytest_configure() -> None:
    """Restores SIGINT, which a shell ignores for background jobs and their children.

    Otherwise the processes that a test starts would ignore its interrupts.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Runs files with slow tests first, so that the last files to start are short.

    Skips long tests, unless WAITD_TEST_LONG is set.
    """
    for item in items:
        if item.get_closest_marker("long") and not os.environ.get("WAITD_TEST_LONG"):
            item.add_marker(pytest.mark.skip(reason="takes half a minute or more; WAITD_TEST_LONG=1 runs it"))
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Gives each process one file at a time, in order, and all Airflow files to one process."""
    from xdist.scheduler.loadfile import LoadFileScheduling  # type: ignore[import-untyped] # xdist has no types

    config.option.loadscopereorder = False
    scheduler = LoadFileScheduling(config, log)
    by_file = scheduler._split_scope
    scheduler._split_scope = lambda test: AIRFLOW if test.startswith(AIRFLOW) else by_file(test)
    return scheduler
