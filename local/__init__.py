"""The embedded default on one machine: services under a small supervisor, the demo, status, tokens. What production
runs on stays out of here (`deploy/`).
"""
