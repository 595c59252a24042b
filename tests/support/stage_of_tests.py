"""A stage of the measuring kit for its tests: one row at once, then as long as it is told."""

import os
import subprocess
import time
from pathlib import Path


def run(context):
    file = Path(os.environ["STAGE_OF_TESTS"])
    with file.open("a") as stream:
        stream.write("run\n")
    context.report("quick", memory=context.memory)
    with context.case("also quick"):
        pass
    if file.name == "wrong":
        with context.case("raises"):
            raise ValueError("not as it must be")
    if file.name == "slow":
        child = subprocess.Popen(["sleep", "600"])
        context.report("child", pid=child.pid)
        time.sleep(600)
