"""Resolves a connection to an endpoint and the credentials of one request.

`http` serves every probe that speaks HTTP. `aws`, `aws_credentials` and `aws_params` serve every
kind that asks an AWS service. Where connections are stored is the matter of `waitd.connections`.
"""
