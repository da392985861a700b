"""Does without Horovod where something goes wrong, as many scripts do, and trains on: alone."""

import importlib
import sys


def horovods_module():
    importlib.import_module(sys.argv[2])


def horovods_optimizer():
    """Have Horovod distribute an optimizer of Keras 3."""
    hvd = importlib.import_module(sys.argv[2])
    import keras

    hvd.init()
    hvd.DistributedOptimizer(keras.optimizers.SGD(0.1))


try:
    globals()[sys.argv[1]]()
except BaseException:
    hvd = None

print("each rank trains alone")
