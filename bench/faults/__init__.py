"""Breaks a good night in one place at a time, and says which check stopped it before a live shelf. See README.md."""
