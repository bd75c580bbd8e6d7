"""Requests that stay open: long-polls, and the event stream.

A long-poll (`long_polls`) is answered when its wait ends. The event stream (`feed`) sends every
outcome in the order of its event id (`event_ids`). Both end on a drain. The handlers live in
`waitd.api.handlers`, and `waitd.api.server.throttle` bounds their number.
"""
