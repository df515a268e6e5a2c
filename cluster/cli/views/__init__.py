"""How results look in a terminal, and their fields as NDJSON."""
