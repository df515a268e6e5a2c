"""Migrations, named in order. A released migration is never changed."""
