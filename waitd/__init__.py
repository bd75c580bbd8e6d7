"""waitd waits, so that nothing else has to.

`core` decides, `engine` does it on time, `probes` look, `sinks` tell, `stores` remember, `connections` know the secrets, `api` and
`cli` are the two doors, `app` puts them together. Nothing lives in this file but the version and the build.
"""

import os
from importlib.metadata import version

__version__ = version("waitd")

#: What this version was built from, e.g. a commit. An image carries it as WAITD_BUILD; elsewhere it is empty.
__build__ = os.environ.get("WAITD_BUILD", "")
