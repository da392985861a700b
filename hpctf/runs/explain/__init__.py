"""Why a run waits, failed or was slow."""
