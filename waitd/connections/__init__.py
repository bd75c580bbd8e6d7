"""Where a `conn_id` is looked up: one file a place (the environment, …), and the cache in front of them.

What a connection is and where its credentials may go is decided in `waitd.core.connections.connection`; what of it is sent with a request, in
`waitd.core.connections.auth`. Nothing here writes a secret down.
"""
