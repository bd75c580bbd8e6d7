"""The kind `http`: poke a URL and decide by status and conditions.

`params` checks a wait's parameters and `params_cache` shares equal ones, `probe` sends the request,
`evaluation` reads the answer and `etags` asks only for what changed. `submit` and `jobs` submit, find
and cancel the job itself.
"""
