"""The loops that do on time what `waitd.core` decides: the poker pokes, the deliverer delivers, the keeper sweeps.

One calendar entry a wait, never a task a wait. What does not live here: how a target is asked (`waitd.probes`), how an event is sent
(`waitd.sinks`), SQL (`waitd.stores`).
"""
