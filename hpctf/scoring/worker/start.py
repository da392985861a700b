"""Entry point in the environment that scores: ``python start.py RUN_FOLDER``.

The folder that this file is in is a package, whatever it is called: ``snapshot`` in a run.
"""

import importlib
import os
import sys

if __name__ == "__main__":
    folder = os.path.dirname(os.path.abspath(__file__))
    sys.path[0] = os.path.dirname(folder)
    main = importlib.import_module(os.path.basename(folder) + ".main")
    del sys.path[0]  # what else lies there is not for others to import
    sys.exit(main.serve(sys.argv[1]))
