"""A wait's `submit` as data: which request submits its job, and how the answer names the job.

`plan` describes the requests, `placeholders` fills in values, and `handles` reads the job's handle
from an answer. The requests themselves are made by `waitd.probes.http.jobs`.
"""
