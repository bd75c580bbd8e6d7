"""The limits of the API's callers, as the settings and the machine make them."""

import resource
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from waitd.api import Throttle
from waitd.api.problems import ProblemError
from waitd.app.limits import build_throttle, connection_limit
from waitd.core.auth.principal import Principal, Role
from waitd.core.auth.quotas import Resource
from waitd.metrics import Instruments
from waitd.settings import Settings


@pytest.fixture
def held() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def hold_all(limits: Throttle, limited: Resource, principal: Principal, held: ExitStack) -> tuple[int, str]:
    """Holds as much as a principal may; returns how much, and why not more."""
    for count in range(10_000):
        try:
            held.enter_context(limits.hold(limited, principal))
        except ProblemError as error:
            return count, str(error)
    raise AssertionError("there is no limit")


def test_the_limits_of_a_namespace_take_the_place_of_the_general_ones(held: ExitStack) -> None:
    settings = Settings.model_validate(
        {
            "max_connections": 400,
            "limits": {"long_polls_per_namespace": 7, "long_polls_per_principal": 5},
            "namespaces": {
                "team_a": {"limits": {"long_polls_per_principal": 3}},
                "*": {"limits": {"long_polls_per_namespace": 6}},
            },
        }
    )
    limits = build_throttle(settings, Instruments(version="test"))
    for namespace, principal, count, why in (
        ("team_a", "one", 3, "long_polls_per_principal"),
        ("team_a", "two", 3, "long_polls_per_principal"),
        ("team_a", "three", 1, "long_polls_per_namespace"),
        ("team_b", "four", 5, "long_polls_per_principal"),
        ("team_b", "five", 1, "long_polls_per_namespace"),
    ):
        caller = Principal(principal, Role.VIEWER, namespace)
        polls, reason = hold_all(limits, Resource.LONG_POLLS, caller, held)
        assert (polls, why in reason) == (count, True)


def test_with_few_descriptors_streams_and_long_polls_leave_connections(
    monkeypatch: pytest.MonkeyPatch, held: ExitStack
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (200, 200))
    settings = Settings()
    assert connection_limit(settings) == 100
    limits = build_throttle(settings, Instruments(version="test"))
    for name, expected in (("a", (25, 50)), ("b", (8, 8))):
        caller = Principal(name, Role.VIEWER, name)
        for limited, count in zip((Resource.EVENT_STREAMS, Resource.LONG_POLLS), expected, strict=True):
            assert hold_all(limits, limited, caller, held)[0] == count
