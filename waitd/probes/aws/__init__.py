"""The kind `aws_waiter`: the waiters that botocore's service models define.

`models` loads those models in a worker, `waiters` evaluates them, and `probe` makes the requests.
"""
