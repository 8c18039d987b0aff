"use strict";
// One origin for the browser: /events is the stream function's, all else the replay function's. Nothing is cached,
// compressed or held back; headers, Authorization among them, and queries are passed on, the host apart: a function URL
// knows its own only. The functions see CloudFront's addresses then. Clients are limited by user, so nothing has to
// believe X-Forwarded-For; pushes go to the webhook's own URL.

const origin = (id, functionUrl) => ({
  Id: id,
  DomainName: { "Fn::Select": [2, { "Fn::Split": ["/", { "Fn::GetAtt": [functionUrl, "FunctionUrl"] }] }] },
  CustomOriginConfig: {
    OriginProtocolPolicy: "https-only",
    OriginSSLProtocols: ["TLSv1.2"],
    OriginReadTimeout: 60, // between two packets; a silent stream says something every 15 s
    OriginKeepaliveTimeout: 60,
  },
});

const behavior = (target) => ({
  TargetOriginId: target,
  ViewerProtocolPolicy: "https-only",
  AllowedMethods: ["GET", "HEAD", "OPTIONS", "PUT", "PATCH", "POST", "DELETE"],
  Compress: false,
  CachePolicyId: "4135ea2d-6df8-44a3-9df3-4b5a84be39ad", // AWS's CachingDisabled
  OriginRequestPolicyId: "b689b0a8-53d0-40ab-baf2-68738e2966ac", // AWS's AllViewerExceptHostHeader
});

// CloudFront keeps errors for 10 s unless told otherwise, by their path alone: one user's 403 would be everybody's.
const errors = [400, 403, 404, 405, 414, 416, 500, 501, 502, 503, 504].map((code) => ({
  ErrorCode: code,
  ErrorCachingMinTTL: 0,
}));

module.exports = async ({ resolveVariable }) => {
  if ((await resolveVariable("param:cdn")) === "off") return {};
  const domain = await resolveVariable("param:cdn_domain, null");
  const certificate = await resolveVariable("param:cdn_certificate, null");
  const own = {
    Aliases: [domain],
    ViewerCertificate: {
      AcmCertificateArn: certificate,
      SslSupportMethod: "sni-only",
      MinimumProtocolVersion: "TLSv1.2_2021",
    },
  };
  return {
    Resources: {
      Cdn: {
        Type: "AWS::CloudFront::Distribution",
        Properties: {
          DistributionConfig: {
            Enabled: true,
            Comment: `tidemark-${await resolveVariable("sls:stage")}`,
            HttpVersion: "http2",
            IPV6Enabled: true,
            ...(domain ? own : {}),
            Origins: [origin("stream", "StreamLambdaFunctionUrl"), origin("replay", "ReplayLambdaFunctionUrl")],
            DefaultCacheBehavior: behavior("replay"),
            CustomErrorResponses: errors,
            CacheBehaviors: [{ PathPattern: "/events", ...behavior("stream") }],
          },
        },
      },
    },
    Outputs: {
      BrowserUrl: {
        Description: "For pages, instead of StreamUrl and ReplayUrl",
        Value: domain ? `https://${domain}/` : { "Fn::Sub": "https://${Cdn.DomainName}/" },
      },
    },
  };
};
