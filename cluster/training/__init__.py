"""The table of measured operating points, and the complexity model made from it."""
