"""Conditions in CEL, and the limits on what they may cost.

`expressions` compiles a condition, `ast` reads which fields it names, `conditions` decides on an
HTTP response, and `fast_path` evaluates common forms without the CEL library. What could block the
event loop runs in the worker processes of `workers`. The tables that turn a decision into a verdict
do not live here but in `waitd.core.http.answer`.
"""
