"""How good a search is, judged on tables of measured operating points."""
