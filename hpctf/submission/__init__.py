"""submitit's executors, with hpctf's templates and watcher, and what a run leaves for the nodes."""
