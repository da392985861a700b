"""hpctf's submitit jobs, used as submitit's own: watcher, results."""

from __future__ import annotations

import textwrap

import pytest

from hpctf.scheduler.jobs import Identity
from hpctf.scheduler.slurm import Slurm, leader
from tests.cluster.fixture import Cluster
from tests.conftest import Person

SUBMITITS_OWN_WORDS = """
    import time

    from hpctf import Experiment, ParameterServer, TensorFlow
    from hpctf.submission.slurm_executor import TemplateJob

    def work():
        import os
        return os.environ["HPCTF_RANK"]

    run = Experiment("watch").submit(TensorFlow(
        function=work, distributed_training=ParameterServer(2, 1, coordinator=False)))
    job = TemplateJob(run.folder.submitit, run.job_id, tasks=range(4))
    job.wait()  # until every result is there; the job itself may take a moment longer
    run.wait_for_completion()
    while not job.watcher.is_done(job.job_id, mode="force"):
        time.sleep(0.1)
    print(job.done(), job.task(0).result(), type(job.submission()).__name__)
    gone = TemplateJob(run.folder.submitit, "9999999")
    print(gone.watcher.is_done("9999999", mode="force"), gone.state)
"""


@pytest.mark.slurm
def test_the_watcher_needs_no_accounting_and_knows_het_jobs(person: Person) -> None:
    program = person.write("program.py", textwrap.dedent(SUBMITITS_OWN_WORDS))
    no_sacct = person.write("bin/sacct", "#!/bin/sh\necho 'Slurm accounting is off' >&2\nexit 1\n")
    no_sacct.chmod(0o755)
    path = f"{no_sacct.parent}:/usr/bin:/bin"
    python = person.bin / "python"
    done = person.cluster.run(
        python, program, user=person.user, cwd=person.home, env={**person.env, "PATH": path}
    )
    assert done.stdout.splitlines() == ["True 0 DelayedSubmission", "True GONE"]


@pytest.mark.slurm
def test_one_query_tells_of_many_jobs_and_leaves_out_unknown_ones(cluster: Cluster) -> None:
    ids = [
        cluster.run("sbatch", "--parsable", "--output=/dev/null", "--wrap=true").stdout.strip()
        for _ in range(3)
    ]
    het = cluster.run(
        *("sbatch", "--parsable", "--output=/dev/null", "--ntasks=1", ":", "--ntasks=1"),
        "--wrap=true",
    ).stdout.strip()
    known = Slurm().query(dict.fromkeys([*ids, het, "9999999"], Identity()))
    assert sorted(known) == sorted([*ids, het])
    assert Slurm().query({"9999999": Identity()}) == {}
    assert Slurm().ask("9999999", Identity()) is None
    assert Slurm().query({}) == {}
    cluster.wait_until_idle()


def test_a_job_is_known_by_its_leaders_id() -> None:
    assert [leader(text) for text in ("4", "4+1", "4.batch", "4;west", "4_2")] == [
        "4",
        "4",
        "4",
        "4",
        "4_2",
    ]
