"""The kind `sql`: runs a SELECT and evaluates conditions on its rows.

`params` checks parameters, `endpoints` turns a connection into a database to connect to, `pool`
runs the query on a pooled connection within `read_limit`, `evaluation` evaluates the conditions on
the rows, and `errors` turns database errors into verdicts. `probe` puts them together.
"""
