"""The tuning stage: fine-tune a model under a condition, and log every step."""
