"""Takes shares of data as each rank of each backend, without a cluster: started by test_data.py."""

import json
import os
import sys

import numpy as np
import tensorflow as tf

import hpctf

SIZE = 3
WORKERS = [f"n{number}:20000" for number in range(SIZE)]


def become(backend, rank):
    """Set what tells a process its place in a run."""
    os.environ.update(HPCTF_BACKEND=backend, HPCTF_RANK=str(rank), HPCTF_WORLD_SIZE=str(SIZE))
    os.environ.pop("TF_CONFIG", None)
    if backend in ("collective", "ps"):
        task = {"type": "worker", "index": rank}
        os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": WORKERS}, "task": task})


def shares(backend, make):
    """Return what each rank gets of the same data."""
    found = []
    for rank in range(SIZE):
        become(backend, rank)
        found.append(make())
    return found


def numbers(dataset):
    return [int(one) for one in dataset.as_numpy_iterator()]


def refusal(make, backend="mpi"):
    become(backend, 0)
    try:
        make()
    except (ValueError, TypeError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def known():
    return numbers(hpctf.shard(tf.data.Dataset.range(11)))


def unknown(count=11):
    filtered = tf.data.Dataset.range(100).filter(lambda number: number < count)
    return numbers(hpctf.shard(filtered))


def endless():
    return numbers(hpctf.shard(tf.data.Dataset.range(7).repeat()).take(7))


def structures():
    """Return the shares of uncounted elements of each structure, of lengths that differ."""
    words = tf.data.Dataset.range(8).filter(lambda number: number < 7)
    made = {
        "tuple": words.map(lambda n: (n, tf.range(n))),
        "one": words.map(lambda n: (n,)),
        "dict": words.map(lambda n: {"a": n, "b": (n, n)}),
    }
    return {
        name: tf.nest.map_structure(lambda part: part.tolist(), list(found.as_numpy_iterator()))
        for name, found in ((name, hpctf.shard(dataset)) for name, dataset in made.items())
    }


def arrays():
    pixels, labels = np.arange(22).reshape(11, 2), np.arange(11)
    first, named = hpctf.shard((pixels, {"labels": labels}))
    return {
        "pixels": first[:, 0].tolist(),
        "labels": named["labels"].tolist(),
        "alone": hpctf.shard(labels).tolist(),
        "list": [part.tolist() for part in hpctf.shard([labels, labels])],
    }


def policy():
    options = hpctf.shard(tf.data.Dataset.range(11)).options()
    return options.experimental_distribute.auto_shard_policy.name


def orders():
    """Return the order in which each rank sees its share, in two passes."""
    from hpctf.distribution.mpi import Horovod
    from hpctf.task import current_task

    mine = Horovod(current_task(), tf.distribute.get_strategy())
    data = mine.data(lambda: tf.data.Dataset.range(26), 2, shuffle=8, seed=20)
    return [batch.tolist() for batch in data.take(8).as_numpy_iterator()]


def replicas():
    """Return how a batch for two replicas in one process is asked for."""
    from hpctf.distribution.single import Strategy
    from hpctf.task import current_task

    become("single", 0)
    two = Strategy(current_task(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
    batch = next(iter(two.data(lambda: tf.data.Dataset.range(20), 3)))
    return {"batch": int(batch.shape[0]), "steps": two.steps(20, 3), "size": two.size}


def refusals():
    numbered = tf.data.Dataset.range(11)
    return {
        "unseeded": refusal(lambda: hpctf.shard(numbered.shuffle(4).map(lambda n: n + 1))),
        "seeded": refusal(lambda: hpctf.shard(numbered.shuffle(4, seed=1))),
        "few": refusal(lambda: hpctf.shard(numbered.take(2))),
        "lengths": refusal(lambda: hpctf.shard({"x": np.zeros(4), "y": np.zeros(5)})),
        "kind": refusal(lambda: hpctf.shard({"x": "abc"})),
    }


def unable():
    """Return what a strategy says where it cannot be."""
    from hpctf.distribution.single import Strategy, refuse_keras_3
    from hpctf.task import current_task

    said = {"no chief": refusal(hpctf.strategy, "ps")}
    become("mpi", 0)
    sys.modules["horovod"] = None
    try:
        hpctf.strategy()
    except ImportError as error:
        said["no Horovod"] = str(error)
    del sys.modules["horovod"]
    optimizer = tf.keras.optimizers.SGD(0.1)
    said["Keras 3"] = refusal(lambda: refuse_keras_3(optimizer, "ps"))
    become("single", 0)
    alone = Strategy(current_task(), tf.distribute.get_strategy())
    said["no step"] = refusal(lambda: alone.steps(20, 32), "single")
    return said


def coordinator():
    """Return what the chief of parameter servers is told outside of a worker's dataset."""
    os.environ["HPCTF_BACKEND"] = "ps"
    cluster = {"chief": ["c:1"], "worker": WORKERS, "ps": ["p:1"]}
    task = {"type": "chief", "index": 0}
    os.environ["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": task})
    said = []
    for data in (tf.data.Dataset.range(11), np.arange(11)):
        try:
            hpctf.shard(data)
        except ValueError as error:
            said.append(str(error))
    return said


def too_late():
    os.environ.update(HPCTF_BACKEND="collective")
    cluster = {"worker": ["127.0.0.1:1"]}
    task = {"type": "worker", "index": 0}
    os.environ["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": task})
    try:
        hpctf.strategy()
    except RuntimeError as error:
        return str(error)
    return "nothing"


def main():
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
    answer = {
        "known": {name: shares(name, known) for name in ("single", "mpi", "collective", "ps")},
        "unknown": {name: shares(name, unknown) for name in ("single", "mpi", "collective")},
        "even": shares("mpi", lambda: unknown(12)),
        "endless": shares("mpi", endless),
        "structures": shares("mpi", structures),
        "arrays": {name: shares(name, arrays) for name in ("single", "mpi", "ps")},
        "policy": {name: shares(name, policy)[0] for name in ("single", "mpi", "collective")},
        "orders": shares("mpi", orders),
        "replicas": replicas(),
        "refusals": refusals(),
        "unable": unable(),
        "coordinator": coordinator(),
        "too_late": too_late(),
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    sys.exit(main())
