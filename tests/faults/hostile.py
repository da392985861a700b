"""Values that a careless program would hand to a shell, to sbatch or to YAML."""

from __future__ import annotations

LONG = "x" * 100_000
"""Longer than any name, shorter than the 131,071 bytes of Linux's longest argument."""

TOO_LONG = "y" * 200_000

VALUES = [
    # quotes
    "'", '"', "''", '""', "'\"'\"'", "it's", 'say "x"', "'; touch CANARY; '", '"; touch CANARY; "',
    # what shells expand
    "$(touch CANARY)", "`touch CANARY`", "${PATH}", "$PATH", "$HOME", "$((1+1))", "$'\\x41'",
    "~", "~root", "*", "?", "[a-z]", "{a,b}", "!!", "!1", "${IFS}", "$(<&0)", "<(touch CANARY)",
    # what ends a command
    "; touch CANARY #", "& touch CANARY &", "| touch CANARY", "&& touch CANARY", "|| touch CANARY",
    "a\ntouch CANARY", "a\ntouch CANARY\n", "\ntouch CANARY\n", "a\r\ntouch CANARY",
    "a;touch CANARY",
    ">CANARY", "2>CANARY", "<CANARY", "# comment", "a #b", "a && b", "(touch CANARY)",
    "'$(touch CANARY)'", '"$(touch CANARY)"', "\\$(touch CANARY)", "EOF\ntouch CANARY", "x\x00y",
    # sbatch's own lines and options
    "\n#SBATCH --wrap='touch CANARY'", "x\n#SBATCH --comment=hostile\n", "#SBATCH --wrap=x",
    "#SBATCH hetjob", "-x", "--", "-", "--wrap=touch CANARY", "--help", "-c", "-rf", "%j",
    "%%", "%x",
    # blanks and backslashes
    "", " ", "  a  ", "\t", "a\tb", "\n", "a\n", "\\", "a\\b", "a\\", "\\n", "\\'", "a\\\nb",
    "\x0b\x0c",
    # templates, formats, paths
    "{{ 7 * 7 }}", "{% raw %}", "{0}", "%s%n", "../../CANARY", "/etc/passwd", "..", ".", "a/b",
    "a=b",
    "=", "=x", "A=$(touch CANARY)", "a,b", "a:b", "a@b", "NULL", "null", "true", "no", "007", "1e3",
    # Unicode, and bytes that are none
    "é", "日本語", "🚀", "\u202eabc", "\u2028", "\ufeffa", "a\u0301", "\x7f", "\x1b[31m", "\x85",
    "caf\udce9", "\udcff\udcfe", "\ud800", "\U0010ffff", "ſ", "İ",
    # long
    LONG, "é" * 50_000, "$(touch CANARY)" * 5000, TOO_LONG,
]  # fmt: skip
"""Each is to arrive unchanged, or to be refused; none may reach a shell."""

FOR_COMMAND_LINES = [v for v in VALUES if "\0" not in v and "\ud800" not in v and v != TOO_LONG]
"""Those that the operating system itself can pass to a command."""

_STEPS = [("abcdefghijklm"[n], "bcdefghijklmn"[n]) for n in range(13)]

YAML = {
    "billion laughs": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{new}: &{new} [{','.join(['*' + old] * 9)}]\n" for old, new in _STEPS)
    + "env: *n\n",
    "billion merges": "a: &a {x0: 1, x1: 1}\n"
    + "".join(
        f"{new}: &{new} {{<<: [{','.join(['*' + old] * 9)}], y{new}: 1}}\n" for old, new in _STEPS
    )
    + "env: *n\n",
    "a list that holds itself": "env: &a [*a]\n",
    "a mapping that holds itself": "env: &a {b: *a}\n",
    "an object": "env: !!python/object/apply:os.system ['touch CANARY']\n",
    "a new object": "!!python/object/new:os.system ['touch CANARY']\n",
    "a module": "env: {a: !!python/name:os.system ''}\n",
    "a tag of nobody": "env: {a: !mine x}\n",
    "binary": "env: {a: !!binary aGVsbG8=}\n",
    "a number's tag": "env: {a: !!int 5}\n",
    "a tag that does not fit": "env: {a: !!bool perhaps}\n",
    "a time that is none": "env: {a: !!timestamp today}\n",
    "a set": "env: !!set {a, b}\n",
    "an ordered mapping": "env: !!omap [a: 1]\n",
    "a key twice": "env: {A: one, A: two}\n",
    "a top key twice": "name: one\nname: two\n",
    "a list": "- a\n- b\n",
    "a text": "just text\n",
    "nothing": "",
    "a comment": "# nothing\n",
    "a tab": "a:\n\tb: c\n",
    "a NUL": "name: a\0b\n",
    "an escaped NUL": 'name: "a\\0b"\n',
    "half a character": 'name: "\\ud800"\n',
    "a control character": "name: a\x07b\n",
    "invalid UTF-8": "name: caf\udce9\n",
    "UTF-16": "\udcff\udcfen\0a\0m\0e\0",
    "deep brackets": "env: " + "[" * 100_000 + "]" * 100_000,
    "deep braces": "env: " + "{a: " * 20_000 + "}" * 20_000,
    "deep indents": "".join(" " * n + "a:\n" for n in range(1200)),
    "deep lists": "- " * 50_000 + "a",
    "two documents": "name: a\n---\nname: b\n",
    "a list as a key": "? [a, b]\n: c\n",
    "an empty key": ": c\n",
    "a long key": "k" * 100_000 + ": x\n",
    "a long value": "name: " + "v" * 100_000 + "\n",
    "two megabytes": "name: " + "v" * 2_000_000 + "\n",
    "an alias of nothing": "name: *nobody\n",
    "an open quote": 'name: "abc\n',
    "a directive": "%YAML 9.9\n---\nname: a\n",
    "a date": "name: 2026-11-23\nx: 1\n",
    "shell": "name: $(touch CANARY)\nx: `touch CANARY`\n",
}
"""YAML that is no job and no site."""
