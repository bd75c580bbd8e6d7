"""A request as the throttle counts it."""

from collections.abc import Iterator
from contextlib import contextmanager

from waitd.api import Throttle
from waitd.core.auth.principal import Principal


@contextmanager
def served(limits: Throttle, principal: Principal) -> Iterator[None]:
    """A request of the caller, while it is served."""
    limits.begin(principal)
    try:
        yield
    finally:
        limits.end(principal)
