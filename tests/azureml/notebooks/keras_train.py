# Written for Azure ML: Keras, whose losses are logged.
import argparse

import keras
import numpy as np
from azureml.core import Run

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int)
args = parser.parse_args()
run = Run.get_context()


class Log(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        run.log("loss", logs["loss"])


model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
X = np.random.default_rng(1).normal(size=(64, 2))
model.fit(X, X.sum(axis=1), epochs=args.epochs, verbose=0, callbacks=[Log()])
model.save("./outputs/model.keras")
