"""ParameterServerStrategy with Keras 3, which hpctf refuses to who has not opted for it."""

import keras
import task
from on_ps import STEPS, fit, loop, workers

if __name__ == "__main__":
    COORDINATOR = workers()
    MODEL, COUNTED = loop(keras, COORDINATOR)
    task.say("loss", 0, {"loop": task.loss_of(MODEL), "counted": COUNTED, "steps": STEPS})
    words = task.words_of(lambda: fit(keras, COORDINATOR, lambda make: make()))
    task.say("refused", 0, {"fit": words})
