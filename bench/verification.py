"""CPU of verifying a push's token, beside a bare ``jwt.decode`` of the same token in the same process."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import jwt

from bench.key_server import key_server
from bench.machine import describe
from bench.report import table
from infra.local.push_signer import AUDIENCE, SERVICE_ACCOUNT, PushSigner, new_key
from shared.counts import Counts
from shared.jwks import KeySet
from shared.push_auth import ALGORITHM, ISSUERS, PushVerifier

RESULTS = Path(__file__).parent / "results"
MOST_RATIO = 3.0
_TOKENS = 2_000
_TURNS = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("--quick", action="store_true", help="a tenth of the tokens; writes no results")


async def run(args: argparse.Namespace) -> None:
    """Measure, print and write."""
    machine = describe()
    count = _TOKENS // 10 if args.quick else _TOKENS
    signer = PushSigner(new_key())
    authorization = signer.authorization()["Authorization"]
    bare_s, ours_s = [], []
    with key_server(signer) as url:
        keys = KeySet(url, name="push_keys", algorithms=[ALGORITHM], counts=Counts())
        verifier = PushVerifier(keys, audience=AUDIENCE, service_account=SERVICE_ACCOUNT)
        await verifier.verify(authorization)
        for _ in range(_TURNS):
            bare_s.append(_bare(signer, authorization, count))
            ours_s.append(await _ours(verifier, authorization, count))
    bare_us, ours_us = (1e6 * min(taken) / count for taken in (bare_s, ours_s))
    text = _markdown(bare_us, ours_us, count, machine)
    print(f"\n{text}")
    if not args.quick:
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / "verification.md").write_text(text, encoding="utf-8")


def _bare(signer: PushSigner, authorization: str, count: int) -> float:
    """Return the CPU seconds of what the library does when it is asked to check all that it can."""
    key = jwt.PyJWK(signer.key_set()["keys"][0])
    token = authorization.partition(" ")[2]
    began = time.process_time()
    for _ in range(count):
        claims = jwt.decode(token, key, algorithms=[ALGORITHM], audience=AUDIENCE, issuer=list(ISSUERS), leeway=10)
    taken_s = time.process_time() - began
    assert claims["email"] == SERVICE_ACCOUNT
    return taken_s


async def _ours(verifier: PushVerifier, authorization: str, count: int) -> float:
    """Return the CPU seconds of what the webhook function does with the header of each push."""
    began = time.process_time()
    for _ in range(count):
        await verifier.verify(authorization)
    return time.process_time() - began


def _markdown(bare_us: float, ours_us: float, count: int, machine: dict[str, str]) -> str:
    ratio = ours_us / bare_us
    met = "yes" if ratio <= MOST_RATIO else "no"
    cells = [f"{bare_us:.1f}", f"{ours_us:.1f}", f"{ratio:.2f}", met]
    how = (
        f"CPU time of the process for {count:,} tokens (RS256, 2,048 bits), the best of {_TURNS} turns each, taken "
        "in turns. Bare: `jwt.decode` with audience and issuer."
    )
    rows = table(["bare, us", "ours, us", "ratio", f"at most {MOST_RATIO:g}?"], [cells])
    about = [f"- {name}: {text}" for name, text in machine.items()]
    return "\n".join(["# Verification of a push", "", how, "", *rows, "", *about, ""])
