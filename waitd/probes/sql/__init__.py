"""The kind `sql`: run a SELECT and decide by its rows.

`params` checks parameters, `endpoints` reads the connection, `pool` keeps connections, `probe` runs the
query within `read_limit`, and `evaluation` asks the conditions.
"""
