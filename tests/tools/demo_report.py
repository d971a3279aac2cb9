"""Checks the report of `banqiao demo --once --json`: five cities, no failed check, counts that agree."""

import json
import sys


def main(path):
    with open(path, encoding="utf-8") as file:
        report = json.load(file)
    cities = report["cities"]
    assert len(cities) == 5, f"{len(cities)} cities"
    for city in cities:
        name = city.get("city") or city.get("code") or city.get("name")
        for key in ("exchanges", "permitted", "refused", "entries"):
            assert isinstance(city[key], int) and city[key] >= 0, f"{name}: {key}"
        assert city["permitted"] > 0, f"{name} has no permitted exchange"
        assert city["entries"] > city["permitted"], f"{name}: fewer entries than exchanges"
    assert sum(city["refused"] for city in cities) >= 2, "the scenario has two refusals"
    checks = report["checks"]
    failed = [check for check in checks if not check.get("passed", check.get("ok"))]
    assert checks and not failed, f"failed checks: {failed}"
    print(f"{len(cities)} cities, {len(checks)} checks")


if __name__ == "__main__":
    main(sys.argv[1])
