"""The HTTP API: its routes, its requests and answers, and its server.

`build_application(ApiDependencies(...))` builds the aiohttp application; an `ApiRunner` serves it.
What a wait's parameters mean lives in `waitd.probes` and `waitd.sinks`, storage in `waitd.stores`,
and the order of start and drain in `waitd.app`.
"""

from waitd.api.application import build_application, build_metrics_application
from waitd.api.dependencies import ApiDependencies, Health, Limits
from waitd.api.follow.feed import EventFeed
from waitd.api.follow.long_polls import LongPolls
from waitd.api.server.runner import ApiRunner
from waitd.api.server.throttle import Throttle
from waitd.api.server.tls import Certificate, TlsSite

__all__ = [
    "ApiDependencies",
    "ApiRunner",
    "Certificate",
    "EventFeed",
    "Health",
    "Limits",
    "LongPolls",
    "Throttle",
    "TlsSite",
    "build_application",
    "build_metrics_application",
]
