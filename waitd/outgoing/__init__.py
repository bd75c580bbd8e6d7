"""Outbound HTTP: connectors that obey the egress rules, and a client for small JSON requests.

`EgressGuard` checks hosts and makes connectors for aiohttp sessions; each address is checked when
its socket is made, and each answer is bounded (`answer_limits`). `TlsContexts` and `tls` have the
TLS contexts, which resume sessions, `IdleConnections` bounds the idle connections, and `opening`
those that open in a turn of the loop. `read_body` reads and decodes bodies within a limit.
`JsonClient` sends requests to the operator's services (token endpoints, secret stores, the identity
provider, Airflow), and `ServiceClient` is the base of their clients. Probes and webhooks have their
own sessions. `CachingResolver` looks host names up for the whole daemon, and `ResolverLoop` is the
event loop that does so for libraries. The rules themselves are pure:
`waitd.core.connections.egress`.
"""

from waitd.outgoing.bodies import drain_body, read_body
from waitd.outgoing.connector import EgressGuard
from waitd.outgoing.errors import (
    AddressRefused,
    AnswerTooLarge,
    HeadTooLarge,
    Http2Only,
    InvalidHttp,
    ProxyFailed,
    describe_error,
    find_address_refused,
    is_http2,
    possible_own_trouble,
)
from waitd.outgoing.idle import IdleConnections
from waitd.outgoing.json_client import JsonClient, JsonResponse, ServiceClient
from waitd.outgoing.lookups import CaresLookup, SystemLookup
from waitd.outgoing.loop import ResolverLoop
from waitd.outgoing.names import CachingResolver, Lookup, LookupFailed, NameNotFound, NameUnanswered
from waitd.outgoing.tls_sessions import TlsContexts, TlsFiles

__all__ = [
    "AddressRefused",
    "AnswerTooLarge",
    "CachingResolver",
    "CaresLookup",
    "EgressGuard",
    "HeadTooLarge",
    "Http2Only",
    "IdleConnections",
    "InvalidHttp",
    "JsonClient",
    "JsonResponse",
    "Lookup",
    "LookupFailed",
    "NameNotFound",
    "NameUnanswered",
    "ProxyFailed",
    "ResolverLoop",
    "ServiceClient",
    "SystemLookup",
    "TlsContexts",
    "TlsFiles",
    "describe_error",
    "drain_body",
    "find_address_refused",
    "is_http2",
    "possible_own_trouble",
    "read_body",
]
