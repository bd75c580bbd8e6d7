"""The probes: how one kind of target is asked, and what its answer means. One file a kind.

`http.py` is the kind `http`: `http_params` reads a wait's parameters, `http_client` makes the request (`decoding` takes its body apart), `judging` asks the conditions,
`conditions` knows CEL and what an expression may cost, `expression_tree` reads what it names. What does not live here: the table of
answers (`waitd.core.answer`), when to poke (`waitd.engine`), where credentials come from (`waitd.connections`).
"""
