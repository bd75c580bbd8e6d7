"""Which rows a list of the store has."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from waitd.core.waits.delivery import DeliveryId
from waitd.core.waits.wait import WaitId

T = TypeVar("T")


class ListPart(list[T]):
    """What a list of the store returns: up to `limit` items, or fewer if it is `cut`.

    Attributes:
        cut: the rows took `most_bytes`, and more of them may follow.
    """

    cut = False


@dataclass(frozen=True, slots=True)
class WaitFilter:
    """Which waits to list, newest first. `most_bytes`: after as many bytes of rows it is cut."""

    namespace: str | None = None
    state: str | None = None
    kind: str | None = None
    labels: Mapping[str, str] | None = None
    before: WaitId | None = None
    limit: int = 100
    most_bytes: float = math.inf


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Which deliveries to list, newest first; `sink` is its kind. `most_bytes`: as for waits."""

    namespace: str | None = None
    state: str | None = None
    sink: str | None = None
    wait_id: str | None = None
    before: DeliveryId | None = None
    limit: int = 100
    most_bytes: float = math.inf


class AuditFilter(NamedTuple):
    """Which audit entries to list, newest first. `before`: only those with a lower number."""

    principal: str | None = None
    action: str | None = None
    subject: str | None = None
    before: int | None = None
    limit: int = 100
