"""Airflow's side of a wait as pure values: callbacks, registrations, task history.

`waitd.sinks.airflow` makes the requests to Airflow; `waitd.airflow` is the provider that runs
there.
"""
