"""A wait's `submit` as data: which request to send and how its answer names the job.

`plan` holds the checked requests, `placeholders` fills values into them, and `handles` reads the job's
handle from the answer. The requests themselves are made by `waitd.probes.http.jobs`.
"""
