"""The stream function: server-sent events."""
