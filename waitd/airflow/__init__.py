"""The Airflow provider: sensors and an operator whose waiting is done by waitd.

A task registers its wait with a waitd daemon, frees its worker slot, and resumes with the wait's
outcome. No Triggerer is needed.

The provider runs in Airflow's processes. Of waitd it imports only `waitd.models` and `waitd.core`.
The daemon's side, which resumes parked tasks, is `waitd.sinks.airflow`.
"""
