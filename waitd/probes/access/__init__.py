"""How a connection becomes an address and credentials for one request.

`http` serves every probe that speaks HTTP; `aws` and `aws_credentials` serve S3 and the AWS waiters.
"""
