"""A real Airflow for the demo, the tests and the benchmarks.

`environment` installs Airflow into a virtual environment, `processes` and `instance` run it with a
PostgreSQL, `companions` runs a job server and waitd next to it. `demo` is `waitd demo --airflow`;
`triggers` puts a load on Airflow's own TriggerRunner.
"""
