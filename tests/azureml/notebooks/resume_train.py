# Written for Azure ML: it goes on from --resume-from, or begins anew.
import argparse
import os
import re

import numpy as np
import tensorflow as tf
from azureml.core import Run

parser = argparse.ArgumentParser()
parser.add_argument("--data-folder", type=str, dest="data_folder", help="data folder")
parser.add_argument(
    "--resume-from", type=str, default=None, help="where the checkpoints of the earlier run are"
)
args = parser.parse_args()

X = np.load(os.path.join(args.data_folder, "images.npy"))
y = np.load(os.path.join(args.data_folder, "labels.npy"))
assert os.environ["HPCTF_INPUT_DIGITS"] == args.data_folder

run = Run.get_context()
weights = tf.Variable(tf.zeros([X.shape[1], 10]))
steps = tf.Variable(0, dtype=tf.int64)
checkpoint = tf.train.Checkpoint(weights=weights, steps=steps)
manager = tf.train.CheckpointManager(
    checkpoint, "./outputs", max_to_keep=None, checkpoint_name="model"
)
start_epoch, n_epochs = 0, 2
if args.resume_from:
    latest = tf.train.latest_checkpoint(args.resume_from)
    checkpoint.restore(latest).assert_consumed()
    start_epoch = int(re.search(r"\d+$", os.path.basename(latest)).group(0)) + 1
    n_epochs = 4
    run.log("restored", int(steps))

for epoch in range(start_epoch, n_epochs):
    for begin in range(0, len(X), 500):
        images, labels = X[begin : begin + 500], y[begin : begin + 500]
        with tf.GradientTape() as tape:
            logits = images @ weights
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            loss = tf.reduce_mean(losses)
        weights.assign_sub(0.1 * tape.gradient(loss, weights))
        steps.assign_add(1)
    run.log("epoch", epoch)
    manager.save(checkpoint_number=epoch)
run.log("steps", int(steps))
