"""Builds the limits of the API's callers from the settings."""

import math
import resource

from waitd.api import Throttle
from waitd.core.auth.namespaces import OTHER_NAMESPACES
from waitd.core.auth.quotas import Kept, KeptLimits, Quota, Resource, Share
from waitd.core.auth.submit_rates import SUBMIT_RATE_LIMIT, SubmitRates
from waitd.metrics import Instruments
from waitd.settings import Settings
from waitd.settings.limits import LimitSettings


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
        Resource.REQUESTS: Quota(
            Resource.REQUESTS, Share(namespace=connections * 3 // 4, principal=connections // 2)
        ),
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
        submit_rates=SubmitRates(
            _submit_share(settings, OTHER_NAMESPACES),
            {name: _submit_share(settings, name) for name in settings.namespaces},
        ),
        requests_per_second=settings.requests_per_second,
        request_burst=settings.request_burst,
        quotas=quotas,
        instruments=instruments,
    )


def build_kept_limits(settings: Settings) -> KeptLimits:
    """The limits of what one namespace, and one caller, may store."""

    def shares(namespace: str) -> dict[Kept, Share]:
        limits = settings.limits_of(namespace)
        kept_shares = limits.kept_shares(settings.capacity)
        return {kept: _applied(settings, limits, kept, share) for kept, share in kept_shares.items()}

    return KeptLimits(shares(OTHER_NAMESPACES), {name: shares(name) for name in settings.namespaces})


def _submit_share(settings: Settings, namespace: str) -> Share:
    limits = settings.limits_of(namespace)
    share = Share(limits.waits_per_second_per_namespace, limits.waits_per_second_per_principal)
    return _applied(settings, limits, SUBMIT_RATE_LIMIT, share)


def _applied(settings: Settings, limits: LimitSettings, name: str, share: Share) -> Share:
    """Applies the defaults only where callers can be told apart.

    Without authentication every call counts as one caller, so only limits that the operator set
    apply.
    """
    if settings.authenticates:
        return share
    is_set = limits.model_fields_set
    return Share(
        share.namespace if f"{name}_per_namespace" in is_set else math.inf,
        share.principal if f"{name}_per_principal" in is_set else math.inf,
    )


def _quota(settings: Settings, limited: Resource, total: int | None = None) -> Quota:
    return Quota(
        limited,
        settings.limits_of(OTHER_NAMESPACES).share(limited),
        namespaces={name: settings.limits_of(name).share(limited) for name in settings.namespaces},
        total=total,
    )
