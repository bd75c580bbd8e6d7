"""The Airflow provider: hook, sensors and an operator that hand their waiting to waitd and park the task meanwhile.

It runs in Airflow's own processes, beside Airflow's libraries: of waitd it imports `waitd.models` and `waitd.core` and nothing else. `client` speaks to the
daemon, `hook` knows it by a connection, `registration` makes what it is told, `operators` leaves the slot and comes back, `sensors` says what
is waited for, `conditions` what to write in place of a callable.

What happens to the task while it is parked is not here: `waitd.sinks.airflow.sink` wakes it.
"""
