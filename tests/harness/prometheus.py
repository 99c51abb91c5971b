"""A private Prometheus: it scrapes relay's programs every second and evaluates the alert rules of `deploy/`."""

import json
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.debian import PROMETHEUS, fetch
from harness.peer import Peer

RULES = Path(__file__).parents[2] / "deploy" / "relay-alerts.yml"
PROMTOOL = "usr/bin/promtool"


class Prometheus(Peer):
    """Its job is named `relay`; each target is an `instance`, named by its key."""

    def __init__(self, targets: Mapping[str, int]) -> None:
        """`targets` has the port of each instance."""
        super().__init__("prometheus", fetch(PROMETHEUS))
        self._targets = targets

    def _command(self) -> list[str]:
        static = [
            {"targets": [f"{self.host}:{port}"], "labels": {"instance": name}} for name, port in self._targets.items()
        ]
        configuration = {  # JSON is YAML
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(RULES)],
            "scrape_configs": [{"job_name": "relay", "static_configs": static}],
        }
        file = self.folder / "prometheus.yml"
        file.write_text(json.dumps(configuration))
        return [
            self._root.file("usr/bin/prometheus"),
            f"--config.file={file}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address={self.host}:{self.port}",
        ]

    def targets(self) -> dict[str, str]:
        """Return the last error of each target, "" when the last scrape was good; without those not scraped yet."""
        active = self._get("targets")["activeTargets"]
        return {each["labels"]["instance"]: each["lastError"] for each in active if each["health"] != "unknown"}

    def rules(self) -> dict[str, str]:
        """Return `ok`, `unknown` (not evaluated yet) or `err: CAUSE` of each alert rule."""
        rules = [rule for group in self._get("rules")["groups"] for rule in group["rules"]]
        return {rule["name"]: f"{rule['health']}: {rule.get('lastError', '')}".removesuffix(": ") for rule in rules}

    def value(self, query: str) -> float | None:
        """Return the value of a query for one series; None when there is none."""
        result = self._get("query?" + urllib.parse.urlencode({"query": query}))["result"]
        assert len(result) <= 1, result
        return float(result[0]["value"][1]) if result else None

    def alerts(self) -> dict[tuple[str, str, str], str]:
        """Return the state, `pending` or `firing`, by rule, instance and name of relay's alarm (or "")."""
        return {
            (each["labels"]["alertname"], each["labels"]["instance"], each["labels"].get("alarm", "")): each["state"]
            for each in self._get("alerts")["alerts"]
        }

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://{self.host}:{self.port}/api/v1/{path}", timeout=20) as answer:
            return json.load(answer)["data"]
