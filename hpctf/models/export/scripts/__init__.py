"""Scripts for the environments that have TensorFlow, ONNX and ONNX Runtime: Python 3.8, and nothing
of hpctf's. Each takes the path of a request in JSON, and answers beside it (``PATH.answer``)."""
