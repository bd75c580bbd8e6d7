"""How many idle connections are kept."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from waitd.outgoing import IdleConnections

MIB = 1024 * 1024


@dataclass
class Connection:
    owner: "Owner"
    idle_since: float

    def close_idle(self, *, abort: bool) -> None:
        del abort
        self.owner.connections.remove(self)
        self.owner.all_idle.add(-self.owner.share)


@dataclass(eq=False)
class Owner:
    all_idle: IdleConnections
    share: int
    connections: list[Connection] = field(default_factory=list)

    def idle_connections(self) -> Iterator[Connection]:
        return iter(self.connections)

    def add(self, idle_since: float) -> None:
        self.connections.append(Connection(self, idle_since))
        self.all_idle.add(self.share)
        if self.all_idle.exceeded:
            self.all_idle.trim()


@pytest.mark.parametrize(
    ("max_connections", "max_memory", "tls", "least", "most"),
    [
        (0, 100 * MIB, True, 0, 0),
        (1, 100 * MIB, True, 1, 1),
        (100, 100 * MIB, True, 93, 100),
        (2048, 128 * MIB, True, 1900, 2048),
        (10_000, 90 * MIB, True, 1900, 2048),
        (10_000, 90 * MIB, False, 5000, 5421),
    ],
)
def test_number_and_memory_are_bounded(
    max_connections: int, max_memory: int, tls: bool, least: int, most: int
) -> None:
    all_idle = IdleConnections(max_connections, max_memory)
    owner = Owner(all_idle, all_idle.share(tls=tls))
    all_idle.add_owner(owner)
    sizes = []
    for number in range(12_000):
        owner.add(number)
        sizes.append(len(owner.connections))
    assert max(sizes) == most
    assert min(sizes[most:]) >= least
    expected = list(range(12_000 - sizes[-1], 12_000))
    assert [each.idle_since for each in owner.connections] == expected, "the last ones are left"


def test_nothing_is_trimmed_where_nothing_is_idle() -> None:
    assert not IdleConnections().trim()
