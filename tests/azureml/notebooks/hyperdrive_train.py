# Written for Azure ML: a softmax regression on digits, whose accuracy is logged after each epoch.
import argparse
import os

import numpy as np
from azureml.core import Run

parser = argparse.ArgumentParser()
parser.add_argument("--data-folder", type=str, dest="data_folder", help="data folder")
parser.add_argument("--batch-size", type=int, dest="batch_size", default=50)
parser.add_argument("--learning-rate", type=float, dest="learning_rate", default=0.01)
parser.add_argument("--resume-from", type=str, default=None, help="the earlier run's outputs")
args = parser.parse_args()

images = np.load(os.path.join(args.data_folder, "images.npy"))
labels = np.load(os.path.join(args.data_folder, "labels.npy"))
weights = np.zeros((images.shape[1], 10))
if args.resume_from:
    weights = np.load(os.path.join(args.resume_from, "weights.npy"))

run = Run.get_context()
run.log("learning_rate", args.learning_rate)
for _ in range(5):
    for first in range(0, 1500, args.batch_size):
        x, y = images[first : first + args.batch_size], labels[first : first + args.batch_size]
        scores = np.exp(x @ weights - (x @ weights).max(axis=1, keepdims=True))
        scores /= scores.sum(axis=1, keepdims=True)
        scores[np.arange(len(y)), y] -= 1
        weights -= args.learning_rate * x.T @ scores / len(y)
    accuracy = ((images[1500:] @ weights).argmax(axis=1) == labels[1500:]).mean()
    run.log("validation_acc", float(accuracy))

os.makedirs("./outputs", exist_ok=True)
np.save("./outputs/weights.npy", weights)
