"""Scripts for the Python that has TensorBoard, which need not be hpctf's: Python 3.8."""
