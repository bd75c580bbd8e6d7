"""The kind `aws_waiter`: the waiters that botocore's service models define.

`models` loads a service's model in a worker process, `waiters` makes its requests and evaluates its
responses, and `probe` sends them. Endpoints and credentials are resolved in `waitd.probes.access`.
"""
