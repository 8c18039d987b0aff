"""The replay function: missed events as JSON, and acks."""
