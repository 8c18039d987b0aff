"""The drill of the local stack: the primary Redis dies while traffic flows, and what comes of it is counted."""
