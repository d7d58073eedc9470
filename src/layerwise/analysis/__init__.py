"""Many runs in, what they have in common out: arrays and tables alone."""
