"""What runs in the environment that scores: it reads rows, has the model score them, writes parts.

It goes along in the run's snapshot and knows nothing of hpctf: numpy, and onnxruntime, Keras or
TensorFlow are all that it needs (and pyarrow, where Parquet is read or written). For Python 3.8 and
up.
"""
