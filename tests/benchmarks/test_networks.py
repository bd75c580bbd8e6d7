"""The benchmark of networks, tiny."""

import shutil

import pytest
from installation import require_apt_package
from networks import Sizes, run

TINY = Sizes(waits=3, interval=0.1, hosts=3, hosts_interval=0.2, seconds=0.2)


@pytest.mark.slow
@pytest.mark.long
async def test_the_parts_start_and_rows_have_figures() -> None:
    """It starts four daemons: that they run with these environments is what is tested."""
    require_apt_package("nginx-light", lambda: shutil.which("nginx", path="/usr/sbin:/usr/bin") is not None)
    results = await run(TINY, ["proxy", "names"])
    assert len(results) == 8
    assert all(len(values) == 1 for values in results.values())
    [tunnels] = results["tunnels"]
    [queries] = results["look-ups of 3 names with a TTL of 3,600 s"]
    assert (tunnels > 0, queries) == (True, 3)
