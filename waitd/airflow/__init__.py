"""The Airflow provider: hook, sensors and an operator that hand their waiting to waitd and park the task meanwhile.

It runs in Airflow's own processes, beside Airflow's libraries: of waitd it imports `waitd.models` and `waitd.core` and nothing else. `client` speaks to the
daemon, `hook` knows it by a connection, `parking` leaves the slot and comes back, `operators` and `sensors` say what is waited for.

What happens to the task while it is parked is not here: `waitd.sinks.airflow` wakes it.
"""
