"""For scripts that parameter servers execute, too."""


def after_servers(file: str) -> str:
    """Return what ends a script whose parameter servers write a file each, ``outputs/ps-{n}``: the
    end of all others ends the servers, whether they have begun or not."""
    return f"""
import json, os, time
servers = json.loads(os.environ.get("TF_CONFIG") or "{{}}").get("cluster", {{}}).get("ps", [])
while not all(os.path.exists({file!r}.format(n=n)) for n in range(len(servers))):
    time.sleep(0.05)
"""
