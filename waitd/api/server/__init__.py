"""The HTTP server: listening, TLS, and the limits that protect it.

`runner` serves the application. `connection_limit` bounds open connections, `throttle` bounds requests
per caller, `bodies` reads request bodies within their limits, and `loopback_guard` refuses requests
that a web page on the same machine could make.
"""
