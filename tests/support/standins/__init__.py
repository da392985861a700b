"""What stands before real programs and libraries in tests."""

from pathlib import Path

WITHOUT_SCIKIT_LEARN = Path(__file__).resolve().parent / "without_scikit_learn"
"""A folder for PYTHONPATH, for tests of Keras that need no scikit-learn."""
