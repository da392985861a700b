"""Stands in front of scikit-learn, which Keras imports where it is installed.

Without it each process of these trainings starts a second and a half of processor time sooner.
"""

raise ImportError("scikit-learn is left out of the trainings of tests/correctness")
