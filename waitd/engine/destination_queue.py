"""The deliveries to one destination between the outbox and their results."""

import asyncio

from waitd.core.fair_shares import FairBacklog, FairShares
from waitd.core.waits.delivery import DeliveryId
from waitd.ports import OutboxItem


class DestinationQueue:
    """The deliveries to one destination that have been read.

    Attributes:
        destination: its name in the outbox.
        turn_ends: from then on it gives way to other destinations, monotonic seconds.
        waiting: deliveries that have not started.
        in_flight: deliveries that are waiting, being sent, or being stored.
        sending: how many are being sent or stored.
        changed: set when the queue's task has something to do.
        more: the namespaces of which the outbox may have more due deliveries.
    """

    def __init__(self, destination: str, more: set[str], turn_ends: float, shares: FairShares) -> None:
        self.destination = destination
        self.turn_ends = turn_ends
        self.waiting: FairBacklog[OutboxItem] = FairBacklog(shares)
        self.in_flight: set[DeliveryId] = set()
        self.sending = 0
        self.changed = asyncio.Event()
        self.more = more
