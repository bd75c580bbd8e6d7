"""waitd polls jobs, files and other sources until they are done, and delivers the outcomes.

`core` makes the decisions and has no I/O. `engine` schedules pokes and deliveries, `probes` poke,
`sinks` deliver, `stores` persist waits, `connections` resolve credentials, `auth` authenticates
callers. `api` and `cli` are the interfaces, and `app` wires the parts together. `airflow` is the
provider, `bench` measures. This file has only the version.
"""

import os
from importlib.metadata import version

__version__ = version("waitd")

#: What this version was built from, e.g. a commit. Images set WAITD_BUILD; elsewhere it is empty.
__build__ = os.environ.get("WAITD_BUILD", "")
