"""From a request body to a wait that is ready to be stored.

`validation` checks a body completely and reports every problem with a pointer. `fast_path` accepts
common bodies for less and falls back to `validation`. `options`, `sinks` and `namespace_policy` check
one part of a body each.
"""
