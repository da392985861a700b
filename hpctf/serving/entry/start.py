"""Entry point of an entry script's process: ``python start.py FD SCRIPT``."""

import importlib.util
import os
import sys

if __name__ == "__main__":
    folder = os.path.dirname(os.path.abspath(__file__))
    sys.path[0] = os.getcwd()  # what lies beside hpctf's files is not for the script to import
    # A name that no module of the script's has.
    spec = importlib.util.spec_from_file_location(
        "hpctf_entry", os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
    )
    assert spec is not None
    sys.modules["hpctf_entry"] = importlib.util.module_from_spec(spec)
    main = importlib.import_module("hpctf_entry.main")
    sys.exit(main.serve(int(sys.argv[1]), sys.argv[2]))
