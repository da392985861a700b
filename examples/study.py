"""A study in Python: which learning rate and batch size read digits best?

Trials whose accuracy falls behind stop early. The report shows what mattered.

    HPCTF_EXAMPLE_PYTHON=/path/to/tensorflow/python python examples/study.py
"""

import os
import sys
from pathlib import Path

import hpctf


def main() -> None:
    """Submit the study, wait for it, and say which trial is the best."""
    estimator = hpctf.TensorFlow(
        source_directory=Path(__file__).parent / "digits",
        entry_script="single.py",
        arguments=["--epochs", 8],
        python=os.environ.get("HPCTF_EXAMPLE_PYTHON", sys.executable),
    )
    study = hpctf.tune(
        estimator,
        {"learning-rate": "loguniform(1e-4, 1e-1)", "batch-size": "choice(8, 16, 32, 64)"},
        metric="accuracy",
        trials=12,
        parallel=4,
        policy="bandit:slack=0.1,delay=2",
        enqueue=[{"learning-rate": 0.003, "batch-size": 16}],
        experiment="digits",
    )
    study.wait_for_completion(show_output=True)
    for trial in study.get_children_sorted_by_primary_metric(top=3):
        print(trial["best_primary_metric"], trial["status"], trial["hyperparameters"])
    print(f"hpctf tune report {study.id}")


if __name__ == "__main__":
    main()
