"""A function that imports Keras 3 where it runs, submitted with MultiWorkerMirroredStrategy."""

import os
from pathlib import Path

from hpctf import Experiment, MultiWorker, TensorFlow


def train():
    import keras

    return keras.__version__


if __name__ == "__main__":
    estimator = TensorFlow(
        Path(__file__).parent,
        function=train,
        distributed_training=MultiWorker(worker_count=2),
        python=os.environ["HPCTF_EXAMPLE_PYTHON"],
    )
    run = Experiment("function").submit(estimator)
    run.wait_for_completion(raise_on_error=False)
    print(run.id)
