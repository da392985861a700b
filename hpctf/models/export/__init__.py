"""Models as ONNX, in two steps: each Python loads what it has written (docs/models.md).

1. The environment that trained a model loads it with the Keras that wrote it, and writes a
   SavedModel and what the model answers (``scripts/save.py``).
2. One environment of hpctf's own converts the SavedModel (``scripts/convert.py``), and compares
   what ONNX Runtime answers with that (``scripts/verify.py``).

Nothing here imports TensorFlow, ONNX or ONNX Runtime: that is up to the scripts.
"""
