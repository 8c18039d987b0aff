"""The drill function: whether this deployment keeps its promises today."""
