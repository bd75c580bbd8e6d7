"""The request handlers, one file per group of routes.

Each handler reads what `waitd.api.queries` and `waitd.api.submission` have checked, calls the store or
the engine, and returns a view. Which path leads to which handler is written in `waitd.api.route_table`.
"""
