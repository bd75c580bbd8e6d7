"""What waitd can wait for: each kind of target has a probe, which parses parameters and pokes.

A kind is a folder (`http`, `s3`, `aws`, `sql`) or a file (`signal`, `time`); kinds do not import
each other. They share CEL conditions (`cel`), connections (`access`), job submission (`submit`) and
the HTTP client (`transport`). `presets` describes job systems as data for `http`, and `optional`
opens the kinds that need an extra. When to poke is decided in `waitd.engine`; tables of verdicts
are in `waitd.core`; credentials come from `waitd.connections`.
"""
