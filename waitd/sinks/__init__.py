"""Sinks: the destinations that outcomes are delivered to.

A sink makes one attempt to deliver an event and returns a receipt: delivered, refused, or
impossible. It never decides about retries; `waitd.engine.deliverer` and `waitd.core.waits.delivery`
do. `webhook` is an HTTP POST, `airflow` calls Airflow's API, and `brokers` publish to message
brokers over clients that `client_pool` keeps open.
"""
