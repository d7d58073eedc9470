"""What each kind of record has to say: a module a kind, named by the record's `DOCUMENT`."""
