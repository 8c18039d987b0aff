"""The subcommands of `tidemark`, one module each: ``add_arguments`` and ``run``."""
