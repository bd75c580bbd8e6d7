"""The queries: reads of waits, deliveries, events, costs, signals, audit entries and API keys.

Each statement sees what was committed before it ran. They run on reading connections, and inside
the writer's transaction where an operation has to look before it writes.
"""
