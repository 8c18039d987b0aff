"use strict";
// One page: which alarms ring, and how much goes through each function and waits in each queue.

module.exports = async ({ resolveVariable }) => {
  const stage = await resolveVariable("sls:stage");
  const { lines, metrics } = await resolveVariable("file(infra/deployment/alarms.yml)");
  const functions = ["Webhook", "Stream", "Replay", "Deliver", "Drill"].map((name) => `\${${name}LambdaFunction}`);
  const ofFunctions = (metric) => functions.map((name) => ["AWS/Lambda", metric, "FunctionName", name]);
  const ofQueues = (metric) =>
    ["DeliveryQueue", "DeadLetterQueue"].map((id) => ["AWS/SQS", metric, "QueueName", `\${${id}.QueueName}`]);
  const graphs = [
    ["Invocations", ofFunctions("Invocations"), "Sum"],
    ["Streams open", [["AWS/Lambda", "ConcurrentExecutions", "FunctionName", "${StreamLambdaFunction}"]], "Maximum"],
    ["A push, ms", [["AWS/Lambda", "Duration", "FunctionName", "${WebhookLambdaFunction}"]], "p95"],
    ["Errors", ofFunctions("Errors"), "Sum"],
    ["Waiting in queues", ofQueues("ApproximateNumberOfMessagesVisible"), "Maximum"],
    ["Log lines", lines.map(({ name }) => [`Tidemark/${stage}`, name]), "Sum"],
  ];
  const widgets = graphs.map(([title, shown, stat], n) => ({
    type: "metric",
    x: (n % 3) * 8,
    y: 3 + Math.floor(n / 3) * 6,
    width: 8,
    height: 6,
    properties: { title, metrics: shown, stat, period: 300, region: "${AWS::Region}", view: "timeSeries" },
  }));
  const alarms = [...lines, ...metrics].map(
    ({ name }) => `arn:\${AWS::Partition}:cloudwatch:\${AWS::Region}:\${AWS::AccountId}:alarm:tidemark-${stage}-${name}`,
  );
  widgets.unshift({ type: "alarm", x: 0, y: 0, width: 24, height: 3, properties: { title: "Alarms", alarms } });
  return {
    Resources: {
      Dashboard: {
        Type: "AWS::CloudWatch::Dashboard",
        Properties: { DashboardName: `tidemark-${stage}`, DashboardBody: { "Fn::Sub": JSON.stringify({ widgets }) } },
      },
    },
  };
};
