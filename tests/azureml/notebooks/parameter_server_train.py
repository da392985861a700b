# Written for Azure ML: between-graph training, as in TensorFlow 1, on every worker and ps.
import argparse
import json
import os

import tensorflow.compat.v1 as tf
from azureml.core import Run

parser = argparse.ArgumentParser()
parser.add_argument("--num_gpus", type=int)
parser.add_argument("--train_steps", type=int)
args = parser.parse_args()

tf.disable_eager_execution()
config = json.loads(os.environ["TF_CONFIG"])
task = config["task"]
cluster = tf.train.ClusterSpec(config["cluster"])
server = tf.distribute.Server(cluster, job_name=task["type"], task_index=task["index"])
if task["type"] == "ps":
    server.join()

with tf.device(tf.train.replica_device_setter(cluster=cluster)):
    global_step = tf.train.get_or_create_global_step()
    weight = tf.get_variable("weight", initializer=5.0)
    loss = tf.square(weight - 1.0)
    train = tf.train.GradientDescentOptimizer(0.05).minimize(loss, global_step=global_step)

is_chief = task["index"] == 0
filters = ["/job:ps", f"/job:worker/task:{task['index']}"]  # workers wait for none of the others
hooks = [tf.train.StopAtStepHook(last_step=args.train_steps)]
with tf.train.MonitoredTrainingSession(
    master=server.target,
    is_chief=is_chief,
    hooks=hooks,
    config=tf.ConfigProto(device_filters=filters),
) as session:
    step = 0
    while not session.should_stop():
        step, _ = session.run([global_step, train])
if is_chief:
    Run.get_context().log("global step", max(int(step), args.train_steps))
