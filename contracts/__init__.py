"""What two sides must agree on: table, column and feature names, ids, eligibility, the manifest.

Imports the standard library, numpy and pydantic; nothing else of the project. No I/O beyond reading settings and the
clock file.
"""
