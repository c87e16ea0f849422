"""A small shop: the example application of celeryops.stack."""
