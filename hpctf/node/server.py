"""TensorFlow's standard server, for ps and workers of a coordinator: ``python server.py``.

Runs in the training environment (Python 3.8 and up, TensorFlow 2) until it is asked to end.
Source: TensorFlow's guide "Parameter server training with ParameterServerStrategy".
"""

import json
import multiprocessing
import os


def main() -> None:
    """Serve as TF_CONFIG says."""
    import tensorflow as tf

    spec = json.loads(os.environ["TF_CONFIG"])
    config = tf.compat.v1.ConfigProto()
    workers = len(spec["cluster"].get("worker", []))
    if multiprocessing.cpu_count() < workers + 1:
        config.inter_op_parallelism_threads = workers + 1
    server = tf.distribute.Server(
        tf.train.ClusterSpec(spec["cluster"]),
        job_name=spec["task"]["type"],
        task_index=spec["task"]["index"],
        config=config,
        protocol="grpc",
        start=True,
    )
    server.join()


if __name__ == "__main__":
    main()
