"""The webhook function: Google Pub/Sub pushes."""
