# Written for Azure ML: two ranks of Horovod.
import argparse

import horovod.tensorflow as hvd
import numpy as np
import tensorflow as tf
from azureml.core import Run

parser = argparse.ArgumentParser()
parser.add_argument("--input_data", type=str)
args = parser.parse_args()
assert np.load(args.input_data).shape[1] == 64  # one file is mounted as such

hvd.init()
total = hvd.allreduce(tf.constant(float(hvd.rank())), op=hvd.Sum)
if hvd.rank() == 0:
    run = Run.get_context()
    run.log("size", hvd.size())
    run.log("sum of ranks", float(total))
