"""Pure decisions: what a verdict does to a wait, when the next poke is due, when a delivery
retries.

No I/O, no async, no clock, no randomness: `now` and jitter are arguments. Only the standard library
and msgspec are imported. Functions return what to do, and `waitd.engine` does it. Probes
(`waitd.probes`), storage (`waitd.stores`) and network access live elsewhere.
"""
