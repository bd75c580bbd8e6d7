"""What only SQLite needs.

A connection with its own thread, the lock that keeps a second daemon off the file, the watch over
the file, what its errors blame, and its words for statements that write many rows at once. What a
statement says is in `waitd.stores.operations` and `waitd.stores.queries`.
"""
