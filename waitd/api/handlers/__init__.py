"""The request handlers, one file per group of routes.

A handler parses its request with `waitd.api.queries` and `waitd.api.submission`, calls the store or
the engine, and returns a view. `waitd.api.route_table` says which route has which handler.
"""
