"""For scripts that parameter servers execute, too."""

AFTER_SERVERS = """
import json, os, time
servers = json.loads(os.environ.get("TF_CONFIG") or "{}").get("cluster", {}).get("ps", [])
while not all(os.path.exists(f"outputs/ps-{n}.json") for n in range(len(servers))):
    time.sleep(0.05)
"""
"""Ends a script whose ranks write ``outputs/ROLE-INDEX.json``: the end of all others ends the
servers, whether they have begun or not."""
