"""A real Airflow for the demo, the tests and the benchmarks.

`environment` installs Airflow into an environment of its own, `processes` and `instance` run it,
`demo` shows waitd beside it, and `triggers` measures Airflow's own trigger runner.
"""
