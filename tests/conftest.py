"""What holds for every room."""

import signal
from collections import Counter
from typing import Any

import pytest

#: What lies here shares one real Airflow, which takes half a minute to start.
AIRFLOW = "tests/e2e/airflow/"


def pytest_configure() -> None:
    """A shell lets what it starts in the background ignore SIGINT, and so would every process that a test starts and interrupts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: where several run at a time, what begins last should be short."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file at a time goes to a process, in the order above, and all files that need Airflow to the same one."""
    from xdist.scheduler.loadfile import LoadFileScheduling  # type: ignore[import-untyped] # it brings no types

    config.option.loadscopereorder = False
    scheduler = LoadFileScheduling(config, log)
    by_file = scheduler._split_scope
    scheduler._split_scope = lambda test: AIRFLOW if test.startswith(AIRFLOW) else by_file(test)
    return scheduler
