"""`triage-node route`: which rule fires on which series, and why."""
