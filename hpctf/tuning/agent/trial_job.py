"""A trial that is a job of its own: submitted, followed, judged, cancelled, and its end told."""

from __future__ import annotations

import time

from hpctf.common.files import write_json
from hpctf.common.processes import user_name
from hpctf.errors import HpctfError, RunFolderError, SchedulerError, SubmissionError
from hpctf.node.conclude import INTERRUPTED
from hpctf.node.messages import say
from hpctf.run_folder.layout import RunFolder
from hpctf.run_folder.rank_states import first_failure, ranks_of, read_job
from hpctf.runs.status.query import from_folder, scheduler_of
from hpctf.runs.status.state import RunState
from hpctf.submission.refusals import is_of_a_limit, limit_in
from hpctf.tuning.agent.ending import RETURNED, Ending, last_words, settle_trial
from hpctf.tuning.agent.follower import JobFollower
from hpctf.tuning.agent.lease import Lease
from hpctf.tuning.agent.trial_submission import NotYetKnown, find_job, submit_trial
from hpctf.tuning.agent.trial_watch import Holder, TrialWatch
from hpctf.tuning.progress import Entry

_AGAIN_S = 5.0
"""How long after a submission or an scancel that has not worked the next one comes."""
_ASK_S = 1.5
"""How often Slurm is asked at most for a job that has ended, or was cancelled."""


class TrialJob(TrialWatch):
    """A trial, by the driver that has it.

    Parameters
    ----------
    entry
        What the ledger says of it: its job's id, if it has been submitted.
    """

    def __init__(self, driver: Holder, lease: Lease, entry: Entry) -> None:
        definition, trial = driver.study.definition, driver.study.trial(entry.number)
        histories = driver.progress.histories
        curve = histories.curves.get(entry.number)
        role, index = ranks_of(driver.study.trial_plan)[0]
        follower = JobFollower(
            trial,
            definition.metric,
            f"{role}-{index}",
            set() if curve is None else curve.steps,
            histories.length(entry.number),
        )
        super().__init__(driver, trial, entry.number, entry.attempt, follower)
        self._lease = lease
        self._job_id = entry.job_id or None
        self._host = ""
        self._has_ended = False
        self._cancelled_at: float | None = None
        self._again_at = self._ask_at = 0.0

    @property
    def folder(self) -> RunFolder:
        """Its run folder."""
        return self._trial

    @property
    def is_submitted(self) -> bool:
        """Whether Slurm has its job."""
        return self._job_id is not None

    def is_to_be_asked(self) -> bool:
        """Whether Slurm should be asked about its job now: it is about to be over."""
        is_ending = self._has_ended or self._cancelled_at is not None
        now = time.monotonic()
        if not is_ending or not self.is_submitted or now < self._ask_at:
            return False
        self._ask_at = now + _ASK_S
        return True

    def look(self, status: RunState | None, *, is_alone: bool = False) -> Ending | None:
        """Do what is to be done, and return how the trial has ended, once it has.

        Parameters
        ----------
        status
            What Slurm says of its job, if it was asked just now.
        is_alone
            Whether no other trial has a job: then a refusal that may be for their number is for
            something else.
        """
        if self._ending is None:
            self._ending = self._wanted_end()
        if self._job_id is None:
            return self._submit(is_alone)
        self._follow()
        self._see_job()
        if status is None and self._has_ended and self._ending is None:
            status = from_folder(self._trial, "its job has ended")  # sure if it has completed
            status = status if status.state == "Completed" else None
        if status is not None and status.final:
            return self._conclude(status)
        if self._ending is not None:
            self._cancel()
        return None

    def _submit(self, is_alone: bool) -> Ending | None:
        """Submit it; a submission that a killed driver has begun is not repeated."""
        if time.monotonic() < self._again_at:
            return None
        self._again_at = time.monotonic() + _AGAIN_S
        try:
            if self._ending is not None:
                return self._unsubmitted(self._ending)
            self._job_id = submit_trial(self._study, self._number, self._may_submit)
        except NotYetKnown as error:
            self._holder.warn(f"trial {self._number}: {error}")
            return None
        except SubmissionError as error:
            words = error.message
            if limit_in(words) or (is_of_a_limit(words) and not is_alone):
                self._holder.warn(f"trial {self._number} waits: {error.message}")
                return None
            return self._never_submitted(error)
        except (SchedulerError, RunFolderError) as error:  # Slurm is away, or the disk is full
            self._holder.warn(f"trial {self._number} waits: {error.message}")
            return None
        except (OSError, HpctfError) as error:
            return self._never_submitted(error)
        self._holder.ledger.job(self._number, self._attempt, str(self._job_id))
        say(f"trial {self._number} is job {self._job_id}: {self._trial.path}")
        self._take_earlier()
        return None

    def _take_earlier(self) -> None:
        """Enter what a trial of an earlier study has logged that goes on here; that is not judged
        again."""
        if self._number < len(self._definition.resume_child_runs):
            self._unsaid = self._follower.new_values()
            if self._unsaid:
                self._enter(self._unsaid)
            self._judged = self._holder.progress.histories.length(self._number)

    def _may_submit(self) -> None:
        """Raise `hpctf.tuning.agent.lease.LeaseLost` if another driver has taken over."""
        self._lease.check(self._holder.ledger.refresh())

    def _unsubmitted(self, ending: Ending) -> Ending | None:
        """Return how a trial ends that is to end before this driver has submitted it; None if it
        has a job after all."""
        if not self._trial.record_file.exists():
            return ending
        self._job_id = find_job(self._trial)
        if self._job_id is not None:
            return None
        settle_trial(self._trial, "Canceled", ending.reason, INTERRUPTED)
        return ending

    def _never_submitted(self, error: OSError | HpctfError) -> Ending:
        words = error.message if isinstance(error, HpctfError) else str(error)
        reason = f"it could not be submitted: {words}"
        if self._trial.record_file.exists():
            settle_trial(self._trial, "Failed", reason, None)
        return Ending("failed", reason)

    def _see_job(self) -> None:
        """Look at what the job has put on record of itself."""
        job = read_job(self._trial.path)
        self._has_ended = job.exit_code is not None
        if job.started is None or job.host is None:
            return
        if self._began is None:
            self._began = job.started
        if job.host != self._host:
            self._host = job.host
            self._holder.ledger.job(self._number, self._attempt, str(self._job_id), job.host)

    def _wanted_end(self) -> Ending | None:
        """Return why it is to end before it does of itself. That its driver ends is no reason."""
        ending = super()._wanted_end()
        return None if ending is not None and ending.state == RETURNED else ending

    def _cancel(self) -> None:
        """Have Slurm end the job: SIGTERM, and later SIGKILL."""
        now = time.monotonic()
        if self._cancelled_at is not None or now < self._again_at:
            return
        self._again_at = now + _AGAIN_S
        try:
            if not self._trial.cancelled.exists():
                by = {"time": time.time(), "by": user_name()}
                write_json(self._trial.cancelled, by, shared=True)
            scheduler_of(self._trial).cancel(str(self._job_id))
            self._cancelled_at = now
        except (OSError, HpctfError) as error:
            self._holder.warn(f"trial {self._number} cannot be cancelled yet: {error}")

    def _conclude(self, status: RunState) -> Ending:
        self._follow(last=True)
        ending = self._ending
        if status.state == "Completed":
            return self._completed(status.exit_code)
        if ending is not None:
            settle_trial(self._trial, "Canceled", ending.reason, INTERRUPTED)
            return ending
        if status.state == "Canceled":
            return Ending("canceled", status.reason)
        failure = first_failure(status.ranks)
        said = "" if failure is None else last_words(self._trial, failure.name)
        return Ending("failed", status.reason + said)
