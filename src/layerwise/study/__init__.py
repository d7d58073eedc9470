"""A matrix of runs that survives: its specification, its ledger, and what works through it."""
