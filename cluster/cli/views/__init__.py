"""How results look in a terminal, and their fields as NDJSON.

Views are pure: values in, renderables out. Every measured number comes with the name of the model
that measured it. Tables fit 80 columns.
"""
