"""What a cluster and its login node say of themselves, for `site_init` and the doctor."""
