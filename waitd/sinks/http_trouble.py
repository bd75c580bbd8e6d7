"""What broke while a request was on its way, in one stable sentence: an error's own text may name addresses, and quote what was sent."""

import aiohttp

from waitd.outgoing import blocked


def what_broke(error: Exception, whom: str) -> str:
    """The sentence for an exception of aiohttp's; `whom` names the other side, e.g. `the receiver`."""
    refusal = blocked(error)
    if refusal is not None:
        return f"no request may go there: {refusal.why}"
    sentence = next(
        (sentence for kinds, sentence in _BROKEN if isinstance(error, kinds)), "the request could not be sent"
    )
    return sentence.format(whom)


#: The first that fits is said.
_BROKEN: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
    (aiohttp.ClientConnectorCertificateError, "{}'s TLS certificate is not accepted"),
    (aiohttp.ClientSSLError, "the TLS handshake with {} failed"),
    (aiohttp.ClientConnectorDNSError, "{}'s host name does not resolve"),
    (aiohttp.ClientConnectorError, "no connection to {} could be made"),
    (TimeoutError, "{} did not answer in time"),
    ((aiohttp.ClientConnectionError, OSError), "the connection broke before {} had answered"),
    (aiohttp.ClientResponseError, "{}'s answer is not HTTP"),
)
