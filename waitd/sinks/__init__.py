"""Where outcomes go: one file a destination, each a `Sink` of `waitd.ports` that makes one attempt and says what came of it.

When an attempt is made, and what becomes of a delivery afterwards, is decided elsewhere: `waitd.engine.deliverer`, `waitd.core.delivery`.
"""
