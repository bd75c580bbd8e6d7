"""The probes: how one kind of target is asked, and what its answer means. One file a kind.

`http.py` is the kind `http`: `http_params` reads a wait's parameters, `http_reading` remembers what many waits' have in common, `http_client` makes the request (`decoding` takes its body apart), `http_judging` and `judging` ask the
conditions, `conditions` knows CEL and what an expression may cost, `plain_conditions` does without CEL where it can, `expression_tree` reads what an expression names.
`http_etags` asks again only for what has changed. A plain GET goes past aiohttp's session: `wire` keeps the connections, `exchange` speaks on them.

`submitting` is what a kind's `submit` comes to, as data, with its `placeholders`; `http_submit` reads that of the kind `http`, `http_jobs` makes the calls, `handles` asks the
expressions about their answers. `signal.py` is the kind `signal`; `s3_queue` reads news of S3 from SQS.

`s3.py` puts the kinds of S3 together, or says which extra is missing: `s3_key` and `s3_keys_unchanged` are the kinds, `s3_params` their parameters, `patterns` wildcards
and regular expressions on RE2, `s3_listing` one LIST for many of them, `file_check` the expression `check`. `s3_client` asks, `s3_xml` reads what is answered, `aws_places` knows where a connection leads,
`aws_credentials` finds the keys that a connection does not hold itself.

`aws.py` is the kind of AWS's waiters, or says which extra is missing: `aws_waiter` asks and judges, `aws_waiters` knows a service by botocore's model, `aws_models` reads
those off the loop, `aws_params` is what the kinds of AWS and S3 have in common. `sql.py` is the same for databases: `sql_probe` is the kind, `sql_params` its parameters,
`sql_databases` keeps connections and runs a SELECT over one, `sql_places` knows where a connection leads, `sql_judging` asks the conditions, `sql_errors` reads what is
refused, `sql_bounds` cuts off what is too much. `not_installed` stands in for a kind without its libraries.

`presets` is a package: job systems by name, each one a file of data, asked and judged by the machinery of the kind `http`.

`workers` are the processes for what is too heavy for the loop. What does not live here: the tables of
answers (`waitd.core.http.answer`, `waitd.core.aws.answers`, `waitd.core.http.job_answer`, `waitd.core.aws.s3_answers`), how a set of keys is remembered (`waitd.core.aws.keys_unchanged`), when to poke (`waitd.engine`), where credentials come from (`waitd.connections`).
"""
