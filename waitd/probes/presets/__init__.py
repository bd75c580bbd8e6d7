"""Presets: kinds for job systems (`airbyte.job`, `bigquery.job`, …), each a TOML file.

The files that come with waitd are in `data/`; `FORMAT.md` describes them and `README.md`, which is
generated, lists them. A preset is data: its probe pokes through the probe of the kind `http`. What
an answer means once the job's state is known is decided in `waitd.core.http.job_answer`.
"""
