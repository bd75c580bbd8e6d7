"""How requests of a connection are sent, from the extras that Airflow's `HttpHook` reads.

- `verify`, or `verify_ssl`: false, or the path of a CA bundle or of a directory of certificates.
- `cert`: the path of a client certificate, or a list of two paths: certificate and key.
- `proxies`, or `proxy`: one URL, or an object of URLs by scheme (see `proxies`); and `trust_env`.
- `allow_redirects` and `max_redirects`.
- `timeout`: how many seconds one request may take.
- `check_response`: false makes conditions decide on an answer with any status. Deliveries refuse
  it.

Paths are those of the daemon's machine. `waitd.outgoing.tls` reads the files.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from waitd.core.connections.proxies import DEFAULT_PROXIES, Proxies, parse_proxies

#: How many redirects within the origin are followed by default, and at most.
DEFAULT_REDIRECTS = 5
MAX_REDIRECTS = 100
_BOOLEANS = {"true": True, "false": False}


class ClientTls(NamedTuple):
    """How a client verifies a server and identifies itself; the key of a TLS context.

    Attributes:
        verify: whether to verify certificates, or the path of the CA certificates to trust.
        cert: the path of the client's certificate, perhaps with its key; None: it sends none.
        key: the path of that certificate's key, if it has a file of its own.
    """

    verify: bool | str = True
    cert: str | None = None
    key: str | None = None


DEFAULT_TLS = ClientTls()


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """How requests of a connection are sent.

    Attributes:
        tls: for its https URLs.
        proxies: its forward proxies, and whether those of the environment apply.
        max_redirects: how many redirects are followed; None: a redirect is the answer.
        timeout: seconds for one request; None: only the wait limits it.
        check_response: whether a status other than a 2xx is judged before the conditions.
    """

    tls: ClientTls = DEFAULT_TLS
    proxies: Proxies = DEFAULT_PROXIES
    max_redirects: int | None = DEFAULT_REDIRECTS
    timeout: float | None = None
    check_response: bool = True


def parse_http_options(extra: Mapping[str, Any]) -> HttpOptions:
    """The options in the `extra` of a connection.

    Raises:
        ValueError: an extra is malformed. The message names it and quotes no value.
    """
    follow = _flag(extra, "allow_redirects", default=True)
    return HttpOptions(
        parse_client_tls(extra),
        parse_connection_proxies(extra),
        _max_redirects(extra) if follow else None,
        _timeout(extra.get("timeout")),
        _flag(extra, "check_response", default=True),
    )


def parse_delivery_options(extra: Mapping[str, Any]) -> HttpOptions:
    """The options of a connection that events are delivered by.

    Raises:
        ValueError: as `parse_http_options`, or the extra would make any answer a delivery.
    """
    options = parse_http_options(extra)
    if not options.check_response:
        raise ValueError(
            "the extra's check_response is not supported for deliveries, of which only a 2xx answer is a "
            "receipt: use a connection without it"
        )
    return options


def parse_client_tls(extra: Mapping[str, Any]) -> ClientTls:
    """The TLS options in the `extra` of a connection. Raises ValueError as `parse_http_options`."""
    name = "verify" if extra.get("verify") is not None else "verify_ssl"
    return ClientTls(_verify(extra, name), *_certificate(extra.get("cert")))


def _verify(extra: Mapping[str, Any], name: str) -> bool | str:
    value = extra.get(name)
    if isinstance(value, str) and value and value.lower() not in _BOOLEANS:
        return value
    return _flag(extra, name, default=True)


def _flag(extra: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = extra.get(name)
    if value is None or value == "":
        return default
    if isinstance(value, str):
        value = _BOOLEANS.get(value.lower())
    if not isinstance(value, bool):
        raise ValueError(f"the extra's {name} must be true or false")  # noqa: TRY004 - bad data, not a bad call
    return value


def _certificate(value: Any) -> tuple[str | None, str | None]:
    if not value:
        return None, None
    if isinstance(value, str):
        return value, None
    if isinstance(value, list) and len(value) == 2 and all(isinstance(each, str) and each for each in value):
        return value[0], value[1]
    raise ValueError("the extra's cert must be a path, or a list of two paths: certificate and key")


def parse_connection_proxies(extra: Mapping[str, Any]) -> Proxies:
    """The proxies in the `extra` of a connection. Raises ValueError as `parse_http_options`."""
    name = "proxies" if extra.get("proxies") else "proxy"
    value = extra.get(name) or {}
    proxies = {"all": value} if isinstance(value, str) else value
    if not isinstance(proxies, Mapping):
        raise ValueError(f"the extra's {name} must be a URL, or an object of URLs by scheme")  # noqa: TRY004 - bad data, not a bad call
    try:
        return parse_proxies(proxies, trust_env=_flag(extra, "trust_env", default=True))
    except ValueError as error:
        raise ValueError(f"the extra's {name}: {error}") from None


def _timeout(value: Any) -> float | None:
    if value is None or value == "":
        return None
    try:
        seconds = (
            float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else 0.0
        )
    except (ValueError, OverflowError):
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise ValueError("the extra's timeout must be a positive number of seconds")
    return seconds


def _max_redirects(extra: Mapping[str, Any]) -> int:
    value = extra.get("max_redirects")
    if value is None or value == "":
        return DEFAULT_REDIRECTS
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        value = int(value[:4])
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_REDIRECTS:
        raise ValueError(f"the extra's max_redirects must be a number in 0..{MAX_REDIRECTS}")
    return value
