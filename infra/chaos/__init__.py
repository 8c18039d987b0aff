"""Faults on purpose: the whole stack, everything between its parts broken by a seeded schedule, and a judge."""
