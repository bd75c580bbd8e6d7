"""The sink `airflow`: resume, set or clear a task, or trigger a run, through Airflow's API.

`params` names the task, `api` makes the calls, and `tasks`, `clear` and `runs` implement the modes.
`sweep` finds waits whose task is gone, and `parked` finds tasks that still wait (`waitd airflow
reconcile`).
"""
