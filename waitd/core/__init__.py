"""The decisions: what a wait is, what a poke's verdict does to it, when the next poke is due, when a delivery is tried again.

Everything here is pure: no I/O, no async, no clock, no randomness; the standard library only, and msgspec for the values that there are
by the million. `now` and jitter are arguments; what to do is returned, and `waitd.engine` does it. What does not live here: how a target
is asked (`waitd.probes`), how rows are kept (`waitd.stores`).
"""
