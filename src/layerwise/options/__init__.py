"""Every public option, declared once: Python, command line, files, schema and docs read it."""
