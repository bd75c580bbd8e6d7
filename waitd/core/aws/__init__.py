"""AWS as pure functions: request signatures, error responses, S3 event notifications.

`keys_unchanged` decides whether a set of S3 keys has stayed the same, for the kind
`s3_keys_unchanged`. Requests are made by `waitd.probes.aws` and `waitd.probes.s3`.
"""
