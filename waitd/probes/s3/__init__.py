"""The kinds `s3_key` and `s3_keys_unchanged`, and S3 notifications from a queue.

`params` checks parameters, `key` and `keys_unchanged` are the probes, `client` makes signed requests and
`xml` reads the answers. `listing` shares one LIST between patterns; `events_queue` reads SQS.
"""
