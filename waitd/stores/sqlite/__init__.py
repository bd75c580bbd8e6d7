"""What only SQLite needs.

A connection with its own thread, the lock that keeps a second daemon off the file, SQLAlchemy Core
statements compiled for SQLite, and statements that write many rows at once. What a statement says
is in `waitd.stores.operations` and `waitd.stores.queries`.
"""
