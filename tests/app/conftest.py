"""The fixtures of the tests of a whole daemon."""

from collections.abc import AsyncIterator

import pytest
from clock_machine import Machine, install


@pytest.fixture
async def machine(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Machine]:
    with monkeypatch.context() as patches:
        yield install(Machine(), patches)
