"""The life of a wait as pure values and functions.

A `wait` is poked on a `schedule`; each poke returns a `verdict`, and `step` decides what follows.
`event` describes the outcome, and `delivery` decides what follows each attempt to deliver it.
`submission` does the same for a job that waitd submits itself; `audit` records who changed what.
"""
