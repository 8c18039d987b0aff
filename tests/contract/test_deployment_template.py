"""What `osls` packages, without a network or credentials: the functions, their settings, and what they may do.

moto models no function URLs, alarms, metric filters, architectures, distributions or capacity providers: these are
looked at here, in the template.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cfnlint.api import lint

from infra.cost.assumptions import Assumptions
from infra.deployment.environments import faults_of
from shared.settings import Function, Settings
from tests.support.alarm_lines import ALARMS
from tests.support.osls import PUSH_ACCOUNT, SECRET
from tests.support.stack_template import VARIANTS, Template, logical_id, packaged

FUNCTIONS = ("webhook", "stream", "replay", "deliver", "drill")


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Template]:
    """Give every variant, packaged."""
    return packaged(tmp_path_factory.mktemp("packaged"))


@pytest.fixture(params=VARIANTS)
def template(request: pytest.FixtureRequest, templates: Mapping[str, Template]) -> Template:
    """Give each variant."""
    return templates[request.param]


@pytest.fixture
def plain(templates: Mapping[str, Template]) -> Template:
    return templates["plain"]


@pytest.fixture
def everything(templates: Mapping[str, Template]) -> Template:
    return templates["everything"]


def test_cfn_lint_has_nothing_to_say(template: Template) -> None:
    """No error, no warning, nothing ignored."""
    assert [str(match) for match in lint(template.text, regions=["us-east-1"])] == []


# -- the functions


def test_every_function_runs_on_arm64_with_the_newest_python_under_a_known_name(template: Template) -> None:
    """Its artifact is its own, and its log group is kept for a limited time."""
    for name in FUNCTIONS:
        function = template.function(name)
        managed = "-managed" if "CapacityProviderConfig" in function else ""
        assert function["FunctionName"] == f"tidemark-{template.stage}-{name}{managed}"
        assert (function["Runtime"], function["Architectures"]) == ("python3.14", ["arm64"])
        assert function["Code"]["S3Key"].endswith(f"/{name}.zip")
        assert {"Key": "stage", "Value": template.stage} in function["Tags"]
        group = template.of_type("Logs::LogGroup")[f"{name.capitalize()}LogGroup"]
        assert group["LogGroupName"] == f"/aws/lambda/tidemark-{template.stage}-{name}"
        assert group["RetentionInDays"] == (90 if template.stage == "prod" else 30)
    assert len(template.of_type("Lambda::Function")) == len(FUNCTIONS)


def test_time_outs_leave_room_for_what_each_function_promises(template: Template) -> None:
    """A push is answered within 3 s, a stream ends before its invocation does, a drill may take ten minutes."""
    timeouts = {name: template.function(name)["Timeout"] for name in FUNCTIONS}
    assert timeouts == {"webhook": 10, "stream": 900, "replay": 10, "deliver": 60, "drill": 900}


def test_memory_is_what_the_cost_model_reckons_with(plain: Template) -> None:
    """One stream an environment, and the other functions alike."""
    assumed = Assumptions()
    assert plain.function("stream")["MemorySize"] == assumed.stream_mb
    for name in ("webhook", "replay", "deliver"):
        assert plain.function(name)["MemorySize"] == assumed.function_mb


def test_the_stream_function_streams_through_the_web_adapter(template: Template) -> None:
    """The adapter of the stack's own region; it asks for no path, for the stream serves while Redis is away."""
    function, variables = template.function("stream"), template.environment("stream")
    (layer,) = function["Layers"]
    assert layer == "arn:aws:lambda:us-east-1:753240598075:layer:LambdaAdapterLayerArm64:27"
    assert function["Handler"] == "functions/stream/run.sh"
    assert variables["AWS_LAMBDA_EXEC_WRAPPER"] == "/opt/bootstrap"
    assert variables["AWS_LWA_INVOKE_MODE"] == "response_stream"
    assert variables["AWS_LWA_READINESS_CHECK_PROTOCOL"] == "tcp"
    assert not [name for name in FUNCTIONS if name != "stream" and "Layers" in template.function(name)]


def test_handlers_exist(plain: Template) -> None:
    """Each names a module of ours; the stream's is a script that can be executed."""
    root = Path(__file__).parents[2]
    for name in FUNCTIONS:
        handler = plain.function(name)["Handler"]
        path = root / (handler if name == "stream" else handler.removesuffix(".handler").replace(".", "/") + ".py")
        assert path.is_file(), handler
    assert (root / plain.function("stream")["Handler"]).stat().st_mode & 0o111


# -- who may call


def test_three_functions_have_a_public_url_without_cors_and_only_the_stream_streams(template: Template) -> None:
    """The application owns CORS: two owners would double the headers."""
    urls = template.of_type("Lambda::Url")
    modes = {logical_id(name): "RESPONSE_STREAM" if name == "stream" else "BUFFERED" for name in FUNCTIONS[:3]}
    assert {
        url["TargetFunctionArn"]["Fn::GetAtt"][0]: url.get("InvokeMode", "BUFFERED") for url in urls.values()
    } == modes
    assert {url["AuthType"] for url in urls.values()} == {"NONE"}
    assert not [url for url in urls.values() if "Cors" in url]


def test_a_url_has_both_permissions_that_it_needs_and_nobody_else_may_call(template: Template) -> None:
    """`lambda:InvokeFunctionUrl`, and `lambda:InvokeFunction` by way of the URL; schedules have one of their own."""
    public: dict[str, set[str]] = {}
    for permission in template.of_type("Lambda::Permission").values():
        name = permission["FunctionName"]["Fn::GetAtt"][0]
        if permission["Principal"] == "*":
            public.setdefault(name, set()).add(permission["Action"])
            assert permission.get("FunctionUrlAuthType") == "NONE" or permission.get("InvokedViaFunctionUrl") is True
        else:
            assert permission["Principal"] == "events.amazonaws.com"
            assert "SourceArn" in permission
    both = {"lambda:InvokeFunctionUrl", "lambda:InvokeFunction"}
    assert public == {logical_id(name): both for name in FUNCTIONS[:3]}


def test_deliver_is_called_with_batches_of_its_queues_and_by_its_schedule(templates: Mapping[str, Template]) -> None:
    """It says which messages of a batch have failed; the confirmation queue is a source where there is one."""
    for name, sources in {"plain": {"DeliveryQueue"}, "everything": {"DeliveryQueue", "ConfirmQueue"}}.items():
        mappings = list(templates[name].of_type("Lambda::EventSourceMapping").values())
        assert {mapping["EventSourceArn"]["Fn::GetAtt"][0] for mapping in mappings} == sources
        for mapping in mappings:
            assert mapping["FunctionName"]["Fn::GetAtt"][0] == logical_id("deliver")
            assert (mapping["BatchSize"], mapping["FunctionResponseTypes"]) == (10, ["ReportBatchItemFailures"])
            assert mapping["ScalingConfig"]["MaximumConcurrency"] == 10
        rules = templates[name].of_type("Events::Rule").values()
        schedules = {rule["Targets"][0]["Arn"]["Fn::GetAtt"][0]: rule["ScheduleExpression"] for rule in rules}
        assert schedules == {logical_id("deliver"): "rate(5 minutes)", logical_id("drill"): "cron(0 6 1 * ? *)"}
        # Without an input of its own the event is EventBridge's, which deliver knows by its detail-type.
        assert not [rule for rule in rules if "Input" in rule["Targets"][0]]


def test_concurrency_is_reserved_only_where_it_is_asked_for(plain: Template, everything: Template) -> None:
    """For the webhook beside the streams, which could starve it."""

    def reserved(template: Template) -> dict[str, Any]:
        key = "ReservedConcurrentExecutions"
        return {name: template.function(name)[key] for name in FUNCTIONS if key in template.function(name)}

    assert (reserved(plain), reserved(everything)) == ({}, {"webhook": 50, "stream": 800})


# -- queues


def test_queues_are_as_doctor_wants_them(template: Template) -> None:
    """High throughput, 14 days, encrypted, and nothing but deliver moves a message."""
    queues = template.of_type("SQS::Queue")
    assert len(queues) == (3 if template.stage == "prod" else 2)
    for name, queue in queues.items():
        assert queue["MessageRetentionPeriod"] == 14 * 86_400
        assert queue["SqsManagedSseEnabled"] is True
        assert "RedrivePolicy" not in queue
        assert template.function("deliver")["Timeout"] < queue["VisibilityTimeout"]
        kept = template.stage == "prod" and name != "ConfirmQueue"
        assert template.resources[name]["DeletionPolicy"] == ("Retain" if kept else "Delete")
    delivery = queues["DeliveryQueue"]
    assert (delivery["FifoQueue"], delivery["QueueName"]) == (True, f"tidemark-{template.stage}-delivery.fifo")
    assert (delivery["DeduplicationScope"], delivery["FifoThroughputLimit"]) == ("messageGroup", "perMessageGroupId")
    assert not [name for name, queue in queues.items() if name != "DeliveryQueue" and "FifoQueue" in queue]


# -- what each function may do

RECEIVE = {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"}
LOGS = {"logs:CreateLogStream", "logs:PutLogEvents"}
SEND, ASK = {"sqs:SendMessage"}, {"sqs:GetQueueAttributes"}
MAY = {
    "webhook": {"WebhookLogGroup": LOGS, "DeliveryQueue": SEND | ASK, "DeadLetterQueue": SEND | ASK},
    "stream": {"StreamLogGroup": LOGS},
    "replay": {"ReplayLogGroup": LOGS},
    "deliver": {
        "DeliverLogGroup": LOGS,
        "DeliveryQueue": RECEIVE | SEND | ASK,
        "DeadLetterQueue": RECEIVE | SEND,
    },
    "drill": {"DrillLogGroup": LOGS, "DeliveryQueue": SEND},
}
MAY_CONFIRM = {"webhook": SEND | ASK, "deliver": RECEIVE | SEND | ASK, "drill": SEND | ASK}


def test_each_function_may_do_what_its_code_does_and_nothing_else(template: Template) -> None:
    """Its role is its own; no resource and no action is a `*`."""
    for name in FUNCTIONS:
        may: dict[str, set[str]] = {}
        for statement in template.statements(name):
            assert statement["Effect"] == "Allow"
            resources = statement["Resource"]
            for resource in resources if isinstance(resources, list) else [resources]:
                logical, attribute = resource["Fn::GetAtt"]
                assert attribute == "Arn"
                may.setdefault(logical, set()).update(statement["Action"])
        confirming = template.stage == "prod" and name in MAY_CONFIRM
        assert may == MAY[name] | ({"ConfirmQueue": MAY_CONFIRM[name]} if confirming else {})
        assert template.function(name)["Role"] == {"Fn::Sub": f"${{{name.capitalize()}Role.Arn}}"}
    assert "IamRoleLambdaExecution" not in template.resources


# -- settings


def test_every_function_accepts_its_environment(template: Template) -> None:
    """As it will be once CloudFormation has put the secrets in."""
    for name in FUNCTIONS:
        assert list(faults_of(Function(name), template.environment(name), SECRET)) == []
        settings = Settings.of(template.resolved(name), Function(name))
        assert settings.stage == template.stage
        assert (settings.queues is not None) is (name in ("webhook", "deliver", "drill"))


def test_options_reach_the_functions_that_read_them(plain: Template, everything: Template) -> None:
    """What is not set is absent, not empty; confirmation is one number for all that take part in it."""
    for template in (plain, everything):
        for name in FUNCTIONS:
            assert all(template.environment(name).values())
    before, after = (
        {name: Settings.of(template.resolved(name), Function(name)) for name in FUNCTIONS}
        for template in (plain, everything)
    )
    assert {settings.retention_s for settings in before.values()} == {86_400}
    assert {settings.retention_s for settings in after.values()} == {7200}
    assert (before["stream"].cors_origins, after["stream"].cors_origins) == ((), ("https://app.example.com",))
    confirming = {name: settings.queues.confirm_s for name, settings in after.items() if settings.queues is not None}
    assert confirming == {"webhook": 45, "deliver": 45, "drill": 45}
    assert not [name for name in FUNCTIONS if "TIDEMARK_CONFIRM_S" in plain.environment(name)]
    # None is told to send copies before it may: the webhook would take no push until then.
    for name in confirming:
        assert "ConfirmSending" in everything.resources[logical_id(name)]["DependsOn"]
    auth = before["webhook"].push_auth
    assert auth is not None
    assert (auth.audience, auth.service_account) == ("tidemark-dev", PUSH_ACCOUNT)


def test_a_function_is_told_no_more_than_it_reads(everything: Template) -> None:
    """Who takes pushes cannot sign tokens, and who faces browsers knows no queue."""
    having = {
        prefix: {
            name for name in FUNCTIONS for variable in everything.environment(name) if variable.startswith(prefix)
        }
        for prefix in ("TIDEMARK_TOKEN_", "TIDEMARK_PUSH_", "TIDEMARK_QUEUE_", "TIDEMARK_CORS_", "TIDEMARK_BYPASS_")
    }
    assert having == {
        "TIDEMARK_TOKEN_": {"stream", "replay"},
        "TIDEMARK_PUSH_": {"webhook"},
        "TIDEMARK_QUEUE_": {"webhook", "deliver", "drill"},
        "TIDEMARK_CORS_": {"stream", "replay"},
        "TIDEMARK_BYPASS_": {"webhook", "stream", "replay"},
    }


def test_secrets_are_named_in_the_template_and_stand_nowhere_in_it(template: Template) -> None:
    """CloudFormation resolves them from the stage's own secret."""
    for name in FUNCTIONS:
        for variable in SECRET.keys() & template.environment(name).keys():
            expected = f"{{{{resolve:secretsmanager:tidemark/{template.stage}:SecretString:{variable}}}}}"
            assert template.environment(name)[variable] == expected
    switched = {"SENTRY_DSN", "TIDEMARK_BYPASS_SECRET"}
    on = switched if template.stage == "prod" else set()
    assert switched & template.environment("webhook").keys() == on


# -- what watches over it


def test_alarms_are_as_many_as_the_cost_model_reckons_with_and_all_of_them_are_heard(template: Template) -> None:
    """Each goes to the topic and says what to do; that there are no data is an alarm of deliver only."""
    alarms = template.of_type("CloudWatch::Alarm")
    assumed = Assumptions()
    assert len(alarms) == assumed.alarms
    for name, alarm in alarms.items():
        assert alarm["AlarmName"] == f"tidemark-{template.stage}-{name.removesuffix('Alarm')}"
        assert alarm["AlarmActions"] == [{"Ref": "AlarmTopic"}]
        assert len(alarm["AlarmDescription"]) > 20
        breaching = name == "DeliverSilentAlarm"
        assert alarm["TreatMissingData"] == ("breaching" if breaching else "notBreaching")
        # CloudWatch looks back a day at most where the period is shorter than an hour ("Alarm evaluation").
        assert alarm["Period"] * alarm["EvaluationPeriods"] <= 86_400
    mails = [mail["Endpoint"] for mail in template.of_type("SNS::Subscription").values()]
    assert mails == (["ops@example.com"] if template.stage == "prod" else [])
    assert len(template.of_type("CloudWatch::Dashboard")) == assumed.dashboards


def test_each_alarm_on_log_lines_has_a_filter_on_the_logs_where_they_stand(plain: Template) -> None:
    """And they feed the metric that the alarm looks at. The lines are held to the patterns where they arise."""
    alarms = plain.of_type("CloudWatch::Alarm").values()
    watched = {alarm["MetricName"] for alarm in alarms if alarm["Namespace"] == "Tidemark/dev"}
    filters = plain.of_type("Logs::MetricFilter").values()
    fed = {transformation["MetricName"] for made in filters for transformation in made["MetricTransformations"]}
    assert watched == fed
    assert len(watched) <= Assumptions().metrics
    assert ALARMS.read_text().count("pattern:") == len(watched)
    for made in filters:
        assert made["LogGroupName"]["Ref"] in plain.of_type("Logs::LogGroup")
        (transformation,) = made["MetricTransformations"]
        # A default value would be published, and billed, all the time.
        assert transformation["MetricNamespace"] == "Tidemark/dev"
        assert "DefaultValue" not in transformation


# -- switches


def test_one_origin_for_the_browser_holds_nothing_back(templates: Mapping[str, Template]) -> None:
    """Nothing is cached or compressed, all headers but Host and all queries go on, a minute may pass in silence."""
    assert templates["plain"].of_type("CloudFront::Distribution") == {}
    assert "BrowserUrl" not in templates["plain"].outputs
    for name, aliases in {"everything": ["events.example.com"], "managed": None}.items():
        config = templates[name].of_type("CloudFront::Distribution")["Cdn"]["DistributionConfig"]
        assert (config["HttpVersion"], config.get("Aliases")) == ("http2", aliases)
        (events,) = config["CacheBehaviors"]
        assert (events["PathPattern"], events["TargetOriginId"]) == ("/events", "stream")
        assert config["DefaultCacheBehavior"]["TargetOriginId"] == "replay"
        for behavior in (events, config["DefaultCacheBehavior"]):
            assert behavior["Compress"] is False
            assert {"GET", "POST", "OPTIONS"} < set(behavior["AllowedMethods"])
            assert behavior["CachePolicyId"] == "4135ea2d-6df8-44a3-9df3-4b5a84be39ad"
            assert behavior["OriginRequestPolicyId"] == "b689b0a8-53d0-40ab-baf2-68738e2966ac"
        # What is kept of errors would be told to everybody.
        assert {error["ErrorCachingMinTTL"] for error in config["CustomErrorResponses"]} == {0}
        assert {400, 403, 404, 503} < {error["ErrorCode"] for error in config["CustomErrorResponses"]}
        for origin in config["Origins"]:
            assert origin["CustomOriginConfig"]["OriginReadTimeout"] >= 60
            assert origin["CustomOriginConfig"]["OriginProtocolPolicy"] == "https-only"
        assert "BrowserUrl" in templates[name].outputs


def test_streams_run_on_managed_instances_where_that_is_switched_on(templates: Mapping[str, Template]) -> None:
    """Many streams an environment, in the given network, and what is deployed is published."""
    managed = templates["managed"]
    function = managed.function("stream")
    config = function["CapacityProviderConfig"]["LambdaManagedInstancesCapacityProviderConfig"]
    assert config["CapacityProviderArn"] == {"Fn::GetAtt": ["StreamCapacity", "Arn"]}
    assert config["PerExecutionEnvironmentMaxConcurrency"] == 1000
    assert function["PublishToLatestPublished"] is True
    # Lambda lets no function change between the two kinds: it is another one, which writes to the same logs.
    assert function["FunctionName"] != templates["plain"].function("stream")["FunctionName"].replace("dev", "staging")
    assert function["LoggingConfig"] == {"LogFormat": "JSON", "LogGroup": "/aws/lambda/tidemark-staging-stream"}
    assert function["MemorySize"] >= 2048
    assert function["FunctionScalingConfig"]["MinExecutionEnvironments"] >= 2
    capacity = managed.of_type("Lambda::CapacityProvider")["StreamCapacity"]
    assert capacity["InstanceRequirements"]["Architectures"] == function["Architectures"]
    assert capacity["VpcConfig"]["SubnetIds"] == {"Fn::Split": [",", "subnet-12345678,subnet-12345679"]}
    for name in ("plain", "everything"):
        assert templates[name].of_type("Lambda::CapacityProvider") == {}
        assert "CapacityProviderConfig" not in templates[name].function("stream")
    assert not [name for name in FUNCTIONS if name != "stream" and "CapacityProviderConfig" in managed.function(name)]


def test_the_stack_tells_what_a_team_has_to_know(plain: Template, everything: Template) -> None:
    """By names that do not change."""
    known = {"WebhookUrl", "StreamUrl", "ReplayUrl", "DeliveryQueueUrl", "DeadLetterQueueUrl", "AlarmTopicArn"}
    assert known <= plain.outputs.keys()
    assert known | {"BrowserUrl", "ConfirmQueueUrl"} <= everything.outputs.keys()
    assert everything.outputs["BrowserUrl"]["Value"] == "https://events.example.com/"
