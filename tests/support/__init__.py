"""What tests share: planted records, tiny models and their texts, and programs that they start.

Fixtures import these modules lazily: shapes are checked at run time only where the package is
imported after tests/conftest.py has said so.
"""
