"use strict";
// The alarms of ../alarms.yml as resources, the topic that hears of them, and who is mailed.

const capital = (name) => name[0].toUpperCase() + name.slice(1);

// What is no number would be written as null, and only CloudFormation would say so, in the middle of a deployment.
const threshold = (row) => {
  const value = Number(row.below ?? row.least ?? 1);
  if (!(value > 0)) throw new Error(`the alarm ${row.name} needs a number above 0, not ${row.below ?? row.least}`);
  return value;
};

const alarm = (stage, row, measured) => ({
  Type: "AWS::CloudWatch::Alarm",
  Properties: {
    AlarmName: `tidemark-${stage}-${row.name}`,
    AlarmDescription: row.says,
    ...measured,
    Period: row.period_s ?? 300,
    EvaluationPeriods: row.periods ?? 1,
    Threshold: threshold(row),
    ComparisonOperator: row.below === undefined ? "GreaterThanOrEqualToThreshold" : "LessThanThreshold",
    TreatMissingData: row.below === undefined ? "notBreaching" : "breaching",
    AlarmActions: [{ Ref: "AlarmTopic" }],
    OKActions: [{ Ref: "AlarmTopic" }],
  },
});

// A metric of no data while nothing happens costs nothing: so there is no default value.
const filter = (row, name, namespace) => ({
  Type: "AWS::Logs::MetricFilter",
  Properties: {
    LogGroupName: { Ref: `${capital(name)}LogGroup` },
    FilterPattern: row.pattern,
    MetricTransformations: [{ MetricNamespace: namespace, MetricName: row.name, MetricValue: "1" }],
  },
});

const measuredByAws = ({ of, metric, statistic = "Sum" }) => {
  const queue = of.endsWith("Queue");
  const [Name, Value] = queue
    ? ["QueueName", { "Fn::GetAtt": [of, "QueueName"] }]
    : ["FunctionName", { Ref: `${capital(of)}LambdaFunction` }];
  return {
    Namespace: queue ? "AWS/SQS" : "AWS/Lambda",
    MetricName: metric,
    Dimensions: [{ Name, Value }],
    ...(statistic.startsWith("p") ? { ExtendedStatistic: statistic } : { Statistic: statistic }),
  };
};

module.exports = async ({ resolveVariable }) => {
  const stage = await resolveVariable("sls:stage");
  const email = await resolveVariable("param:alarm_email, null");
  const { lines, metrics } = await resolveVariable("file(infra/deployment/alarms.yml)");
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
  for (const row of lines) {
    for (const name of row.logs) Resources[`${row.name}In${capital(name)}`] = filter(row, name, namespace);
    const counted = { Namespace: namespace, MetricName: row.name, Statistic: "Sum" };
    Resources[`${row.name}Alarm`] = alarm(stage, row, counted);
  }
  for (const row of metrics) Resources[`${row.name}Alarm`] = alarm(stage, row, measuredByAws(row));
  return { Resources, Outputs: { AlarmTopicArn: { Value: { Ref: "AlarmTopic" } } } };
};
