"""Runs the poker with both kinds of probe."""

from functools import partial

import pytest
from engine_harness import RunPoker, running_poker
from fakes import ScriptedProbe, TasklessProbe


@pytest.fixture(params=[ScriptedProbe, TasklessProbe])
def run_poker(request: pytest.FixtureRequest) -> RunPoker:
    """Runs a poker whose probe pokes in a task, and one whose probe needs none."""
    return partial(running_poker, probe=request.param)
