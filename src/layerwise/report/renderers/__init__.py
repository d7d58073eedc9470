"""How blocks are drawn: a module a form. None knows a record."""
