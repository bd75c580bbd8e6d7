"""Which rows a list of the store has."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from waitd.core.waits.delivery import DeliveryId
from waitd.core.waits.wait import WaitId


@dataclass(frozen=True, slots=True)
class WaitFilter:
    """Which waits to list, newest first."""

    namespace: str | None = None
    state: str | None = None
    kind: str | None = None
    labels: Mapping[str, str] | None = None
    before: WaitId | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Which deliveries to list, newest first. `sink` is its kind."""

    namespace: str | None = None
    state: str | None = None
    sink: str | None = None
    wait_id: str | None = None
    before: DeliveryId | None = None
    limit: int = 100


class AuditFilter(NamedTuple):
    """Which audit entries to list, newest first. `before`: only those with a lower number."""

    principal: str | None = None
    action: str | None = None
    subject: str | None = None
    before: int | None = None
    limit: int = 100
