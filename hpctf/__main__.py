"""``python -m hpctf``: the command line, also from a checkout that is not installed."""

from __future__ import annotations

from hpctf.cli import main

if __name__ == "__main__":
    main()
