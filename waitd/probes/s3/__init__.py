"""The kinds `s3_key` and `s3_keys_unchanged`, and S3 notifications from an SQS queue.

`key` and `keys_unchanged` are the probes and `params` checks their parameters. `client` sends
signed requests, `xml` parses the answers, `listing` shares one LIST between many patterns, and
`patterns` compiles them. `events_queue` reads notifications, which poke waits as soon as their key
arrives.
"""
