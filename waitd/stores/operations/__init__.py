"""The writer's operations: what each kind of write does inside a transaction.

`requests` lists what may be queued, `transaction` runs one group of them, and every other file
implements one kind of write.
"""
