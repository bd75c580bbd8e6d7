"""Outbound HTTP: connectors that obey the egress rules, and a client for small JSON requests.

`Outgoing` makes connectors for aiohttp sessions; each address is checked when its socket is made.
`JsonClient` serves the operator's own services: token endpoints, secret stores, the identity
provider, Airflow; `ServiceClient` is the base of their clients. The egress rules themselves are pure and live in `waitd.core.connections.egress`;
requests of probes and webhooks have sessions of their own.
"""

from waitd.outgoing.connector import Outgoing
from waitd.outgoing.errors import EgressBlocked, describe_error, find_egress_blocked
from waitd.outgoing.json_client import JsonClient, JsonResponse, ServiceClient

__all__ = [
    "EgressBlocked",
    "JsonClient",
    "JsonResponse",
    "Outgoing",
    "ServiceClient",
    "describe_error",
    "find_egress_blocked",
]
