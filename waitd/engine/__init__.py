"""The loops that do on time what `waitd.core` decides.

The poker pokes, the deliverer delivers, the submitter submits jobs, and maintenance sweeps and
prunes. A held wait costs one calendar entry, never a task. How a target is poked is in
`waitd.probes`, how an event is sent in `waitd.sinks`, and SQL in `waitd.stores`.
"""
