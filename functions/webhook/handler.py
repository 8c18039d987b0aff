"""Cold start of the webhook function on Lambda."""

from __future__ import annotations

from shared.cold_start import cold_start

# An environment serves one push at a time. The rate limit is counted after the append, on the same connection: a
# second one would cost each cold start a second TLS handshake, and the database twice the connections.
CONNECTIONS = 1

with cold_start():
    from functions.webhook.app import Deps, build_app
    from shared.lambda_handler import lambda_handler
    from shared.settings import Function
    from shared.start import start

    handler = lambda_handler(build_app(Deps.of(start(Function.WEBHOOK, max_connections=CONNECTIONS))))
