"""Sites: what a cluster is like, as YAML checked against a schema."""
