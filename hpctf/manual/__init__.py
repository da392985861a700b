"""The pages of docs/, as hpctf carries them: found by name, searched, completed, shown."""
