"""The demo, the load test and the parts that both are made of.

A flaky job server whose truth is known, a small S3, a receiver that checks callbacks, child
processes, and what Linux says about them; `airflow/` runs a real Airflow. The scripts in
`tests/benchmarks` use it, too.

Everything here talks to the daemon from outside, over its API and CLI, and imports none of its
internals. What a person sees on the terminal lives in `waitd.cli`.
"""
