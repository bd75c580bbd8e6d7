"""What the commands print: tables, plots, progress displays and explanations.

Modules here do not call the daemon and do not parse arguments. Most functions take values, such as
a wait of the API, and return text or a rich renderable.
"""
