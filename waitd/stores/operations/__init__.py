"""The writer's operations: one file for each kind of write.

`commands` defines what can be queued for the writer and `transaction` holds the state of one
commit. Each other file applies the commands of one kind inside a transaction.
"""
