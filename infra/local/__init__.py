"""The local stack: embedded Redis, the Upstash-compatible gateway, all functions on one origin."""
