"""The functions of the bundle; each has a handler (cold start) and an app (routes)."""
