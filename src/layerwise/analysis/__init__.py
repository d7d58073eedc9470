"""The analysis stage: slopes, widths and correlations of many runs, from tables alone."""
