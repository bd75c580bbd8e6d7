"""Conditions in CEL, and the limits on what they may cost.

`expressions` compiles a condition, `ast` reads which fields it names, `evaluation` evaluates the
conditions of one answer, and `fast_path` evaluates common forms without the CEL library. Work that is
too heavy for the event loop runs in `workers`.
"""
