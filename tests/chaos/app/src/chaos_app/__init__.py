"""An application that is faulted on purpose: see scripts/chaos.py."""
