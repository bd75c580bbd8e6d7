"""A wait's life as pure values and functions.

A `wait` is polled on a `schedule`; each poke gives a `verdict`; `step` turns it into the next state;
the `event` describes the outcome and `delivery` decides what follows each attempt to deliver it.
`submission` is the same for a job that waitd submits itself, and `audit` records who changed what.
"""
