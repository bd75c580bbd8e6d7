"""AWS as pure functions: request signatures, error answers, S3 event notifications.

`keys_unchanged` decides when a set of S3 keys has been stable for long enough.
"""
