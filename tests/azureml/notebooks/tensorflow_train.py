# Written for Azure ML: one process, metrics, a saved model in ./outputs.
import argparse
import os

import numpy as np
import tensorflow as tf
from azureml.core import Run

parser = argparse.ArgumentParser()
parser.add_argument("--data-folder", type=str, dest="data_folder")
parser.add_argument("--learning-rate", type=float, dest="learning_rate", default=0.01)
args = parser.parse_args()

X = np.load(os.path.join(args.data_folder, "images.npy"))
y = np.load(os.path.join(args.data_folder, "labels.npy"))
run = Run.get_context()


class Classifier(tf.Module):
    def __init__(self):
        super().__init__()
        self.weights = tf.Variable(tf.zeros([X.shape[1], 10]))

    @tf.function(input_signature=[tf.TensorSpec([None, 64], tf.float32)])
    def __call__(self, images):
        return images @ self.weights


model = Classifier()
for _ in range(40):
    with tf.GradientTape() as tape:
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y[:1400], model(X[:1400]))
        loss = tf.reduce_mean(losses)
    model.weights.assign_sub(args.learning_rate * tape.gradient(loss, model.weights))
    guessed = tf.argmax(model(X[1400:]), axis=1)
    run.log("validation_acc", float(np.mean(guessed.numpy() == y[1400:])))
tf.saved_model.save(model, "./outputs/model")
