"""Where outcomes go: one file a destination, each a `Sink` of `waitd.ports` that makes one attempt and says what came of it.

The sinks of message brokers (`sqs`, `redis`, `nats`, `kafka`, `amqp`) stand on `broker` and `shared`; each has an extra of its own, and
its library is imported when the first event goes there.

`airflow` goes back into Airflow: `airflow_params` says where to, `airflow_api` asks, `airflow_tasks` and `airflow_runs` are its modes,
`airflow_sweep` looks for tasks that are gone, `airflow_parked` for those that wait (`waitd airflow reconcile`).

When an attempt is made, and what becomes of a delivery afterwards, is decided elsewhere: `waitd.engine.deliverer`, `waitd.core.waits.delivery`.
"""
