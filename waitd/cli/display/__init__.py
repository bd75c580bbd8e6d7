"""What the commands print: tables, plots, progress and sentences.

Nothing here talks to the daemon. Each function takes values and returns text or a rich renderable.
"""
