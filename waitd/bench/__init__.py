"""Targets and receivers to run waitd against: a fleet of flaky jobs whose truth is known, the keys they write, callbacks that are counted;
the demo, the load test, and what it is compared with. And an Airflow of our own (`airflow_…`), in an environment of its own
(`environments`), for the demo, the tests and whoever measures what waiting costs there.

Everything here is traffic from outside the daemon, over its public doors only; nothing of the daemon's inside is imported.
What people see of it lives in `waitd.cli`.
"""
