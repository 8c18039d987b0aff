"use strict";
// What `osls` does for Tidemark besides: it makes the artifacts before it packages them, and looks before it deploys
// whether every function will have the settings that it needs.

const { spawnSync } = require("node:child_process");
const fs = require("node:fs");
const path = require("node:path");

const FUNCTIONS = ["webhook", "stream", "replay", "deliver", "drill"];
const STAGE = /^[a-z0-9][a-z0-9-]{0,31}$/; // as the functions take it; osls and AWS would take more
const SWITCHES = {
  confirmation: ["on", "off"],
  sentry: ["on", "off"],
  bypass: ["on", "off"],
  cdn: ["on", "off"],
  streams_on: ["lambda", "managed"],
  queues_on_remove: ["Delete", "Retain"],
  artifacts: ["build", "prebuilt"],
};
// Options that are of no use, or do harm, without another.
const NEEDED = [
  ["streams_on=managed", "managed_subnets"],
  ["streams_on=managed", "managed_security_groups"],
  ["cdn_domain", "cdn_certificate"],
  ["cdn_certificate", "cdn_domain"],
  ["reserve_stream", "reserve_webhook"], // streams would starve it
];
// Options that do not go together.
const EXCLUDED = [["streams_on=managed", "reserve_stream"]]; // instances have no concurrency to reserve
// With this a command reaches past CloudFormation, which alone can resolve secrets.
const REFUSED = "would write the functions' environment with the names of secrets instead of secrets: deploy the stage";

class Tidemark {
  constructor(serverless, options, { log }) {
    this.serverless = serverless;
    this.log = log;
    this.error = serverless.classes.Error;
    this.commands = {
      preflight: {
        usage: "Looks whether a stage's settings and secrets are there; changes nothing",
        lifecycleEvents: ["run"],
        options: {},
      },
    };
    let looked = false;
    const once = () => looked || ((looked = true), this.preflight());
    this.hooks = {
      initialize: () => this.checkParameters(),
      "before:package:cleanup": () => serverless.processedInput.commands[0] === "deploy" && once(),
      "before:deploy:deploy": once,
      "before:package:initialize": () => this.dropUnset(),
      "before:package:createDeploymentArtifacts": () => this.artifacts(),
      "before:deploy:function:initialize": () => {
        throw new this.error(`osls deploy function ${REFUSED}`);
      },
      "preflight:run": once,
    };
  }

  get stage() {
    return this.serverless.getProvider("aws").getStage();
  }

  // A misspelt option would be no option, and osls would not say so: neither of one given with the command, nor of one
  // written under a stage.
  checkParameters() {
    if (!STAGE.test(this.stage)) {
      throw new this.error(`the stage's name must be 1-32 characters of a-z 0-9 -, not ${this.stage}`);
    }
    const { default: known, ...stages } = this.serverless.configurationInput.params;
    const given = this.given().map((text) => text.split("=", 1)[0]);
    const written = Object.values(stages).flatMap((options) => Object.keys(options ?? {}));
    const unknown = [...new Set([...given, ...written])].filter((name) => !Object.hasOwn(known, name));
    if (unknown.length) {
      throw new this.error(`no such option: ${unknown.join(", ")}; see default in infra/deployment/stages.yml`);
    }
    for (const [name, allowed] of Object.entries(SWITCHES)) {
      const value = this.option(name);
      if (!allowed.includes(value)) {
        throw new this.error(`the option ${name} must be ${allowed.join(" or ")}, not ${value}`);
      }
    }
    for (const [name, needed] of NEEDED) {
      if (this.isGiven(name) && !this.isGiven(needed)) throw new this.error(`the option ${name} needs ${needed}`);
    }
    for (const [name, other] of EXCLUDED) {
      if (this.isGiven(name) && this.isGiven(other)) throw new this.error(`the option ${name} excludes ${other}`);
    }
  }

  isGiven(name) {
    const [option, value] = name.split("=");
    const found = this.option(option);
    return value === undefined ? ![null, undefined, ""].includes(found) : found === value;
  }

  given() {
    return [this.serverless.processedInput.options.param ?? []].flat();
  }

  option(name) {
    const given = this.given().find((text) => text.startsWith(`${name}=`));
    if (given !== undefined) return given.slice(name.length + 1);
    const file = this.serverless.configurationInput.params;
    return file[this.stage]?.[name] ?? file.default[name];
  }

  // Unset is not empty.
  dropUnset() {
    for (const name of FUNCTIONS) {
      const { environment } = this.serverless.service.getFunction(name);
      for (const [variable, value] of Object.entries(environment)) {
        if (value === null || value === "") delete environment[variable];
        else if (typeof value === "number") environment[variable] = String(value);
      }
    }
  }

  artifacts() {
    if (this.option("artifacts") === "build") this.run("make", ["artifacts"], { stdio: ["ignore", "inherit", "inherit"] });
    for (const name of FUNCTIONS) {
      const { artifact } = this.serverless.service.getFunction(name).package;
      if (!fs.existsSync(path.resolve(this.serverless.serviceDir, artifact))) {
        throw new this.error(`there is no ${artifact}: make artifacts`);
      }
    }
  }

  preflight() {
    this.dropUnset();
    const environments = {};
    for (const name of FUNCTIONS) environments[name] = this.serverless.service.getFunction(name).environment;
    const provider = this.serverless.getProvider("aws");
    const argv = ["-m", "infra.deployment.preflight", "--stage", this.stage, "--region", provider.getRegion()];
    const profile = this.serverless.processedInput.options["aws-profile"];
    const version = this.run(".venv/bin/python", argv, {
      input: JSON.stringify(environments),
      stdio: ["pipe", "pipe", "inherit"],
      env: profile ? { ...process.env, AWS_PROFILE: profile } : process.env,
    });
    this.log.notice(`Settings and secrets of ${this.stage} are as the functions want them`);
    // CloudFormation resolves a secret anew only where something else changes as well: this does when the secret has.
    for (const name of FUNCTIONS) {
      this.serverless.service.getFunction(name).environment.TIDEMARK_SECRET_VERSION = version.trim();
    }
  }

  run(command, argv, options) {
    const done = spawnSync(command, argv, { cwd: this.serverless.serviceDir, encoding: "utf8", ...options });
    if (done.error?.code === "ENOENT") throw new this.error(`there is no ${command}: make .venv/.local makes it`);
    if (done.status !== 0) throw new this.error(`${command} ${argv.slice(0, 2).join(" ")} has failed: see above`);
    return done.stdout;
  }
}

module.exports = Tidemark;
