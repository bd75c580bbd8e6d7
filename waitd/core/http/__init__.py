"""What an HTTP answer means, without making a request.

`answer` is the table from an answer to a verdict for the kind `http`; `job_answer` is the table for
presets. `headers` reads header values and `server_sent_events` parses an event stream.
"""
