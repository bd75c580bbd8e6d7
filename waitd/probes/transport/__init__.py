"""HTTP for probes: requests within limits, over kept connections.

`client` sends a request and follows redirects. GET and HEAD use `pool` and `connection`, which cost less
than an aiohttp session; other methods use the session. `decoding` decompresses bodies within a limit.
"""
