"""Two Redis and three Sentinels on one machine: whichever Redis dies, the log goes on.

    directory = data_dir.make("ha")
    url = await HighAvailability(directory, start).start()    # what the gateway takes as its --redis-url
    name = await primary(directory)                           # "redis-1" or "redis-2"

No Redis is the primary by its name: the Sentinels decide, and their own files remember it for the next start.
"""

from infra.local.ha.cluster import HighAvailability, Starter, primary
from infra.local.ha.layout import MASTER, Layout, Node

__all__ = ["MASTER", "HighAvailability", "Layout", "Node", "Starter", "primary"]
