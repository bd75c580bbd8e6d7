"""HTTP for probes: requests within limits, on kept-alive connections.

`HttpClient` is the entry. GET and HEAD without a body use waitd's own connections, which cost less
than an aiohttp session; all other requests use a session. What a response means for a wait is not
decided here.
"""
