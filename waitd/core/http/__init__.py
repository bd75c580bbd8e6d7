"""What an HTTP response means. Nothing here makes a request.

`answer` turns a response into a verdict for the kind `http`; `job_answer` adds the rules for job
APIs. `headers` validates request headers and parses `Retry-After`; `server_sent_events` parses an
event stream. Conditions are evaluated in `waitd.probes.cel`.
"""
