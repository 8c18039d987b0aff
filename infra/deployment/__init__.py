"""The bundle on AWS: what serverless.yml includes, and what looks before a deployment."""
