"""From an estimator and a site to a plan."""
