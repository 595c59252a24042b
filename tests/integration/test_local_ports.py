"""A cluster that olmrl starts on one machine is not reachable from another."""

import json
import subprocess
import sys

import pytest

LISTENING = """
import json, psutil
from olmrl.cluster import Plan
from olmrl.cluster.connect import connect
connect(None, 1, Plan((), None), dashboard=True)
processes = psutil.Process().children(recursive=True)
found = []
for process in [psutil.Process(), *processes]:
    try:
        found += [c.laddr.ip for c in process.net_connections("inet") if c.status == "LISTEN"]
    except psutil.Error:
        pass
print(json.dumps(found))
"""


@pytest.mark.slow
def test_all_ports_of_a_local_cluster_listen_on_loopback():
    done = subprocess.run(
        [sys.executable, "-c", LISTENING], capture_output=True, text=True, timeout=300, check=True
    )
    addresses = json.loads(done.stdout.splitlines()[-1])
    assert len(addresses) > 3
    assert [a for a in addresses if a not in ("127.0.0.1", "::1", "::ffff:127.0.0.1")] == []
