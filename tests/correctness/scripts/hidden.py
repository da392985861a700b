"""Runs another script, which nobody finds who reads the imports of this one."""

import importlib
import sys

importlib.import_module(sys.argv[1])
