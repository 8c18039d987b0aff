"use strict";
// What is an alarm, and what to do about each. CloudWatch bills each of them: `tidemark cost` assumes as many.

// What the functions' log lines say; each is found in the logs of the functions named.
const LINES = [
  {
    name: "LogAway",
    logs: ["webhook", "stream", "replay", "deliver"],
    pattern: '{ $.breaker = "log" && $.state = "open" }',
    says: "Redis does not answer: pushes wait in the queue. tidemark doctor says why",
  },
  {
    name: "PushLeft",
    logs: ["webhook"],
    pattern: '{ $.message = "push taken by neither log nor queue" }',
    says: "Neither Redis nor SQS took a push; Pub/Sub sends it again. tidemark doctor looks at both",
  },
  {
    name: "PushForbidden",
    logs: ["webhook"],
    pattern: '{ $.message = "push refused" && $.code = "push_forbidden" }',
    least: 10, // anybody can have Google sign a token that is not ours
    says: "Google's tokens say another audience or service account than push_audience and push_service_account",
  },
  {
    name: "KeysAway",
    logs: ["webhook", "stream", "replay"],
    pattern: '{ $.keys = "*" && $.level = "WARNING" }',
    least: 3,
    period_s: 900,
    says: "The server of the keys that tokens are verified with does not answer; known keys serve for a day",
  },
  {
    name: "Unconfirmed",
    logs: ["deliver"],
    pattern: '{ $.message = "a delivered push is not confirmed" }',
    says: "The confirmation queue does not take copies: what a failover of Redis forgets now stays forgotten",
  },
  {
    name: "Forgotten",
    logs: ["stream", "deliver"],
    pattern: '{ $.message = "the log has forgotten events: fenced" || $.message = "an event that the log had forgotten is restored" }',
    says: "A failover of Redis has forgotten events; clients are told of a gap. Turn confirmation on if it is off",
  },
  {
    name: "PromiseBroken",
    logs: ["drill"],
    pattern: '{ $.message = "drill" && $.level = "ERROR" }',
    says: "A drill found a promise broken; its report is in the drill function's log",
  },
  {
    name: "Defects",
    logs: ["webhook", "stream", "replay"],
    pattern: '{ $.level = "ERROR" || $.level = "CRITICAL" }',
    says: "Defects, with their traces, are in the function's log",
  },
];

// What AWS measures itself. `of` is a function of ours, or a queue's logical id.
const METRICS = [
  {
    name: "PushesWait",
    of: "DeliveryQueue",
    metric: "ApproximateAgeOfOldestMessage",
    statistic: "Maximum",
    least: "alarm_wait_s",
    period_s: 60,
    periods: 3,
    says: "Pushes wait in the queue. Is Redis away (tidemark doctor), or does deliver fail?",
  },
  {
    name: "DeadLetters",
    of: "DeadLetterQueue",
    metric: "ApproximateNumberOfMessagesVisible",
    statistic: "Maximum",
    says: "Pushes that could not be delivered: tidemark dlq list says why",
  },
  { name: "WebhookErrors", of: "webhook", metric: "Errors", least: 3, says: "The webhook does not start, crashes or times out: see its log" },
  { name: "WebhookThrottles", of: "webhook", metric: "Throttles", says: "Pushes are turned away for want of concurrency: see reserve_webhook" },
  {
    name: "WebhookSlow",
    of: "webhook",
    metric: "Duration",
    statistic: "p95",
    least: 2000,
    periods: 3,
    says: "Pushes take over 2 s. How far away is Redis, and does it answer in time?",
  },
  { name: "StreamErrors", of: "stream", metric: "Errors", least: 3, says: "The stream function does not start, crashes or times out: see its log" },
  { name: "StreamThrottles", of: "stream", metric: "Throttles", says: "Streams are turned away for want of concurrency: ask AWS for more, or see streams_on" },
  {
    name: "StreamsMany",
    of: "stream",
    metric: "ConcurrentExecutions",
    statistic: "Maximum",
    least: "alarm_streams",
    period_s: 60,
    periods: 3,
    says: "Streams take most of the account's concurrency: ask AWS for more, or see streams_on",
  },
  { name: "ReplayErrors", of: "replay", metric: "Errors", least: 3, says: "The replay function does not start, crashes or times out: see its log" },
  { name: "DeliverErrors", of: "deliver", metric: "Errors", says: "deliver does not start, crashes or times out: see its log" },
  {
    name: "DeliverSilent",
    of: "deliver",
    metric: "Invocations",
    below: 1,
    period_s: 3600,
    says: "deliver was not called for an hour, not even by its schedule: is it there, are its triggers enabled?",
  },
  { name: "DrillErrors", of: "drill", metric: "Errors", says: "A drill did not end: see its log" },
];

module.exports = { LINES, METRICS };
