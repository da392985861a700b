"""MultiWorkerMirroredStrategy with Keras 3, which hpctf refuses to who has not opted for it."""

import keras
import task
from on_collective import RANK, fit, loop

if __name__ == "__main__":
    task.keep("loop", RANK, loop(keras))
    task.keep("loop-clipped", RANK, loop(keras, **task.CLIP))
    task.say("refused", RANK, {"fit": task.words_of(lambda: fit(keras))})
