"""Everything around the functions: the local stack, the command, deployment."""
