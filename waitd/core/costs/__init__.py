"""What waiting costs.

`model` computes slot-seconds, CPU, memory and money of waits in four modes; `attribution` divides
the CPU time of the waitd process among the work that it did. The ledger is in `waitd.engine`.
"""
