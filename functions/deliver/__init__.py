"""The deliver function: pushes that waited in a queue, into the log."""
