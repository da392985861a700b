# Written for Azure ML, in the manner of its Keras tutorials; hpctf's tests run it as it is.
import argparse
import os

import numpy as np
import tensorflow as tf
from azureml.core import Run
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

parser = argparse.ArgumentParser()
parser.add_argument("--batch-size", type=int, dest="batch_size", default=50)
parser.add_argument("--first-layer-neurons", type=int, dest="n_hidden_1", default=100)
parser.add_argument("--learning-rate", type=float, dest="learning_rate", default=0.001)
args = parser.parse_args()

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16.0, y, test_size=0.2, random_state=1)

n_outputs = 10
n_epochs = 5

model = tf.keras.models.Sequential(
    [
        tf.keras.layers.Input(shape=(64,)),
        tf.keras.layers.Dense(args.n_hidden_1, activation="relu"),
        tf.keras.layers.Dense(n_outputs, activation="softmax"),
    ]
)
model.compile(
    loss="sparse_categorical_crossentropy",
    optimizer=tf.keras.optimizers.RMSprop(learning_rate=args.learning_rate),
    metrics=["accuracy"],
)

# start an Azure ML run
run = Run.get_context()


class LogRunMetrics(tf.keras.callbacks.Callback):
    # callback at the end of every epoch
    def on_epoch_end(self, epoch, log):
        # log a value repeated which creates a list
        run.log("Loss", log["val_loss"])
        run.log("Accuracy", log["val_accuracy"])


history = model.fit(
    X_train,
    y_train,
    batch_size=args.batch_size,
    epochs=n_epochs,
    verbose=2,
    validation_data=(X_test, y_test),
    callbacks=[LogRunMetrics()],
)

score = model.evaluate(X_test, y_test, verbose=0)

# log a single value
run.log("Final test loss", score[0])
print("Test loss:", score[0])

run.log("Final test accuracy", score[1])
print("Test accuracy:", score[1])

predicted = np.argmax(model.predict(X_test, verbose=0), axis=1)
# log an image
mistake = X_test[predicted != y_test][0].reshape(8, 8, 1) * 255
tf.io.write_file("mistake.png", tf.io.encode_png(mistake.astype(np.uint8)))
run.log_image("A mistake", path="mistake.png")

matrix = tf.math.confusion_matrix(y_test, predicted).numpy().tolist()
run.log_confusion_matrix(
    "Test set",
    {
        "schema_type": "confusion_matrix",
        "schema_version": "v1",
        "data": {"class_labels": [str(n) for n in range(10)], "matrix": matrix},
    },
)

# create a ./outputs/model folder in the compute target
# files saved in the "./outputs" folder are automatically uploaded into run history
os.makedirs("./outputs/model", exist_ok=True)

# serialize NN architecture to JSON
model_json = model.to_json()
with open("./outputs/model/model.json", "w") as f:
    f.write(model_json)
# save model weights
model.save_weights("./outputs/model/model.weights.h5")
print("model saved in ./outputs/model folder")
run.upload_file(name="model.json", path_or_stream="./outputs/model/model.json")
