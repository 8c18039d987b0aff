#!/bin/sh
# Starts the stream function under the Lambda Web Adapter, or in a container. No access log: tokens may stand in
# the query.
exec python3 -m uvicorn functions.stream.handler:app \
  --host "${TIDEMARK_HOST:-127.0.0.1}" --port "${AWS_LWA_PORT:-${PORT:-8080}}" \
  --loop uvloop --http functions.stream.server:StreamProtocol --no-proxy-headers --no-access-log --no-server-header --timeout-graceful-shutdown 2
