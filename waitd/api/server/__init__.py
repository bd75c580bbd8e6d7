"""The HTTP server: listening, TLS, and the limits that protect it.

`runner` serves the application and `connection` is one of its connections. The other modules bound
connections, requests per caller and bodies, and refuse requests of web pages on the same machine.
"""
