"""The probes: how one kind of target is asked, and what its answer means. One file a kind.

`http.py` is the kind `http`: `http_params` reads a wait's parameters, `http_client` makes the request (`decoding` takes its body apart), `judging` asks the conditions,
`conditions` knows CEL and what an expression may cost, `expression_tree` reads what it names.

`s3.py` puts the kinds of S3 together, or says which extra is missing: `s3_key` and `s3_keys_unchanged` are the kinds, `s3_params` their parameters, `patterns` wildcards
and regular expressions on RE2, `file_check` the expression `check`. `s3_client` asks, `s3_xml` reads what is answered, `s3_places` knows where a connection leads,
`aws_credentials` finds the keys that a connection does not hold itself.

`workers` are the processes for what is too heavy for the loop. What does not live here: the tables of
answers (`waitd.core.answer`, `waitd.core.s3_answer`), how a set of keys is remembered (`waitd.core.unchanged`), when to poke (`waitd.engine`), where credentials come from (`waitd.connections`).
"""
