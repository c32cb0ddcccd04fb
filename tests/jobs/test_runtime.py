"""What every command shares: one run of a job at a time in a home."""

import os
import signal
import subprocess
import sys

import pytest

from contracts.errors import UsageError
from contracts.settings import REPOSITORY, Settings
from jobs import runtime
from jobs.lake import ingest, tidy, warehouse

WORKS_ON = """
import sys, time
from pathlib import Path
from contracts.settings import Settings
from jobs import runtime

@runtime.alone("ingest")
def run(settings):
    print("at work", flush=True)
    time.sleep(600)

run(Settings(_env_file=None, home=Path(sys.argv[1])))
"""


def test_a_second_run_is_refused_until_the_first_has_ended_or_was_killed(tmp_path):
    settings = Settings(_env_file=None, home=tmp_path)
    with subprocess.Popen([sys.executable, "-c", WORKS_ON, tmp_path], cwd=REPOSITORY, stdout=subprocess.PIPE) as other:
        try:
            other.stdout.readline()
            with pytest.raises(UsageError, match=rf"another ingest \(pid {other.pid}\) is running on this home"):
                ingest.run(settings, "2026-03-03")
        finally:
            os.kill(other.pid, signal.SIGKILL)
    with pytest.raises(UsageError, match="no complete landed interval"):
        ingest.run(settings, "2026-03-03")


@pytest.mark.parametrize(("job", "run"), [("ingest", ingest.run), ("warehouse", warehouse.run), ("tidy", tidy.run)])
def test_each_job_that_writes_the_lake_is_alone_at_it(tmp_path, job, run):
    settings = Settings(_env_file=None, home=tmp_path)

    @runtime.alone(job)
    def meanwhile(settings):
        with pytest.raises(UsageError, match=rf"another {job} \(pid {os.getpid()}\)"):
            run(settings, "2026-03-03" if job != "tidy" else 3.0)
        return {}

    meanwhile(settings)
