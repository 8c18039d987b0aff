"""What stands around the streams, whatever they run on: the functions on Lambda, the queues, what watches over it."""

from __future__ import annotations

from infra.cost.assumptions import DAYS, GB, MONTH_S, Assumptions
from infra.cost.line import Line
from infra.cost.load import Load
from infra.cost.prices import Prices

FUNCTIONS = "webhook, replay, deliver"
QUEUES = "queues"
WATCHING = "logs, metrics, alarms"
SECRETS = "secrets"
_POLL_S = 20
#: Sent, received and deleted.
_REQUESTS_A_MESSAGE = 3


def around(given: Assumptions, load: Load, prices: Prices) -> tuple[Line, ...]:
    """Price it."""
    queued, confirmed = load.pushes * given.queued, load.pushes * given.confirm
    answered = load.acks + load.replays
    scheduled = MONTH_S / given.schedule_s
    invocations = load.received + answered + queued + confirmed + scheduled
    busy_ms = load.received * given.webhook_ms + answered * given.replay_ms
    busy_ms += (queued + confirmed) * given.deliver_ms + scheduled * given.scheduled_ms
    polls = given.pollers * MONTH_S / _POLL_S
    logged_gb = (invocations + load.opens) * given.log_bytes / GB
    return (
        Line(FUNCTIONS, "GB-seconds", busy_ms / 1000 * given.function_mb / 1024, prices["lambda_gb_s"]),
        Line(FUNCTIONS, "requests", invocations, prices["lambda_request"]),
        Line(
            QUEUES, "requests to the delivery queue", queued * _REQUESTS_A_MESSAGE + polls, prices["sqs_fifo_request"]
        ),
        Line(
            QUEUES,
            "requests to the confirmation queue",
            confirmed * _REQUESTS_A_MESSAGE + (polls if given.confirm else 0),
            prices["sqs_request"],
        ),
        Line(WATCHING, "GB of logs", logged_gb, prices["log_gb"]),
        Line(WATCHING, "GB of logs kept", logged_gb * given.log_days / DAYS, prices["log_kept_gb"]),
        Line(WATCHING, "metrics", given.metrics, prices["metric"]),
        Line(WATCHING, "alarms", given.alarms, prices["alarm"]),
        Line(WATCHING, "dashboards", given.dashboards, prices["dashboard"]),
        Line(SECRETS, "parameters", given.parameters, prices["parameter"]),
        Line(SECRETS, "secrets", given.secrets, prices["secret"]),
    )
