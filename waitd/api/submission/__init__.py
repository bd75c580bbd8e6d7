"""From a request body to a wait that is ready to be stored.

`validation` is the one path that every body takes; the other modules check one part of a body each.
What parameters mean lives with the probes and sinks; how waits are stored lives in `waitd.stores`.
"""
