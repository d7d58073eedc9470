"""A placement as files that other tools read; one module a trainer, data only."""
