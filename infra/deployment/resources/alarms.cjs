"use strict";
// The alarms of ../alarms.cjs as resources, the topic that hears of them, and who is mailed.

const { LINES, METRICS } = require("../alarms.cjs");

const PERIOD_S = 300;
const capital = (name) => name[0].toUpperCase() + name.slice(1);

module.exports = async ({ resolveVariable }) => {
  const stage = await resolveVariable("sls:stage");
  const email = await resolveVariable("param:alarm_email, null");
  const namespace = `Tidemark/${stage}`;
  const Resources = {
    AlarmTopic: { Type: "AWS::SNS::Topic", Properties: { DisplayName: `Tidemark ${stage}` } },
  };
  if (email) {
    Resources.AlarmMail = {
      Type: "AWS::SNS::Subscription",
      Properties: { TopicArn: { Ref: "AlarmTopic" }, Protocol: "email", Endpoint: email },
    };
  }

  const alarm = (row, properties) => {
    const least = row.below ?? row.least ?? 1;
    Resources[`${row.name}Alarm`] = {
      Type: "AWS::CloudWatch::Alarm",
      Properties: {
        AlarmName: `tidemark-${stage}-${row.name}`,
        AlarmDescription: row.says,
        ...properties,
        Period: row.period_s ?? PERIOD_S,
        EvaluationPeriods: row.periods ?? 1,
        Threshold: least,
        ComparisonOperator: row.below === undefined ? "GreaterThanOrEqualToThreshold" : "LessThanThreshold",
        TreatMissingData: row.below === undefined ? "notBreaching" : "breaching",
        AlarmActions: [{ Ref: "AlarmTopic" }],
        OKActions: [{ Ref: "AlarmTopic" }],
      },
    };
  };

  for (const row of LINES) {
    for (const name of row.logs) {
      Resources[`${row.name}In${capital(name)}`] = {
        Type: "AWS::Logs::MetricFilter",
        Properties: {
          LogGroupName: { Ref: `${capital(name)}LogGroup` },
          FilterPattern: row.pattern,
          MetricTransformations: [{ MetricNamespace: namespace, MetricName: row.name, MetricValue: "1" }],
        },
      };
    }
    alarm(row, { Namespace: namespace, MetricName: row.name, Statistic: "Sum" });
  }

  for (const row of METRICS) {
    const queue = row.of.endsWith("Queue");
    const [Name, Value] = queue
      ? ["QueueName", { "Fn::GetAtt": [row.of, "QueueName"] }]
      : ["FunctionName", { Ref: `${capital(row.of)}LambdaFunction` }];
    const statistic = row.statistic ?? "Sum";
    const least = typeof row.least === "string" ? Number(await resolveVariable(`param:${row.least}`)) : row.least;
    alarm(
      { ...row, least },
      {
        Namespace: queue ? "AWS/SQS" : "AWS/Lambda",
        MetricName: row.metric,
        Dimensions: [{ Name, Value }],
        ...(statistic.startsWith("p") ? { ExtendedStatistic: statistic } : { Statistic: statistic }),
      },
    );
  }
  return { Resources, Outputs: { AlarmTopicArn: { Value: { Ref: "AlarmTopic" } } } };
};
