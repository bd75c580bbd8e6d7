"""What waiting costs under each mode, and how measured use is attributed to waits.

`model` computes slot-seconds, CPU, memory and money from a wait's duration and pokes; `attribution`
shares the process's own use out over its waits.
"""
