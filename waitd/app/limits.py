"""Builds the limits of the API's callers from the settings."""

import resource

from waitd.api import Throttle
from waitd.core.auth.namespaces import OTHER_NAMESPACES
from waitd.core.auth.quotas import Quota, Resource, Share
from waitd.metrics import Instruments
from waitd.settings import Settings


def connection_limit(settings: Settings) -> int:
    """How many connections the API may have: half of the descriptors are left for other uses."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(settings.max_connections, descriptors // 2)


def build_throttle(settings: Settings, instruments: Instruments) -> Throttle:
    """The limits of one daemon.

    Whatever one namespace holds, connections are left for the others.
    """
    connections = connection_limit(settings)
    quotas = {
        Resource.REQUESTS: Quota(Resource.REQUESTS, Share(connections * 3 // 4, connections // 2)),
        Resource.EVENT_STREAMS: _quota(
            settings, Resource.EVENT_STREAMS, min(settings.max_event_streams, connections // 4)
        ),
        Resource.LONG_POLLS: _quota(
            settings, Resource.LONG_POLLS, min(settings.max_long_polls, connections // 2)
        ),
        Resource.READS: _quota(settings, Resource.READS),
        Resource.BATCHES: _quota(settings, Resource.BATCHES),
    }
    return Throttle(
        requests_per_second=settings.requests_per_second,
        request_burst=settings.request_burst,
        quotas=quotas,
        instruments=instruments,
    )


def _quota(settings: Settings, limited: Resource, total: int | None = None) -> Quota:
    return Quota(
        limited,
        settings.limits_of(OTHER_NAMESPACES).share(limited),
        namespaces={name: settings.limits_of(name).share(limited) for name in settings.namespaces},
        total=total,
    )
