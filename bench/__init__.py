"""Measurements of the product against a floor, over real processes: ``python -m bench``."""
