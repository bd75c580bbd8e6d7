"""Requests that stay open: long polls, and the stream of events.

A long poll (`long_polls`) answers when its wait ends. The event stream (`feed`) sends every outcome
in the order of its event id (`event_ids`). Both are bounded in number and end when the daemon drains.
"""
