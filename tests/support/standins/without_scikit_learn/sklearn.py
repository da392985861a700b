"""Stands in front of scikit-learn, which Keras imports where it is installed.

Without it each process that imports Keras starts a second and a half of processor time sooner.
"""

raise ImportError("scikit-learn is left out of this test")
