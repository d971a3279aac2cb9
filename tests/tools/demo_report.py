"""Checks the report of `banqiao demo --once --json`: five cities, every check held, counts that agree."""

import json
import sys


def main(path):
    """Fails with the first thing that does not hold."""
    with open(path, encoding="utf-8") as file:
        report = json.load(file)
    cities = report["cities"]
    assert [city["city"] for city in cities] == ["370200", "370600", "370700", "371000", "371100"], cities
    for city in cities:
        counted = [city[key] for key in ("exchanges", "permitted", "refused", "entries")]
        assert all(isinstance(count, int) for count in counted), city
        assert city["permitted"] > 0, f"{city['name']} has no permitted exchange"
        assert city["entries"] >= city["exchanges"] >= city["permitted"], city
    assert sum(city["refused"] for city in cities) >= 2, "the scenario has two refusals"
    witnessed = [check for check in report["checks"] if check["name"] == "ledgers witnessed"]
    assert witnessed, "no check of the witnesses"
    assert any(check["name"] == "evidence" for check in report["checks"]), "no call was proven by a file"
    names = {check["name"] for check in report["checks"]}
    pension = {f"pension {what}" for what in ("limit", "table refused", "needs both", "completed", "watched", "documents")}
    assert pension <= names, f"the pension transfer was not played whole: {pension - names}"
    cards = {"electronic card", "card renewed"}
    assert cards <= names, f"no check of {cards - names}"
    benefits = {"eligibility recognised", "loss only investigated", "entitlement of the insured city"}
    assert benefits <= names, f"no check of {benefits - names}"
    laboratory = {"quality round passed", "all cities asked", "recognition advised", "decisions counted", "decision delivered"}
    assert laboratory <= names, f"no check of {laboratory - names}"
    failed = [check for check in report["checks"] if not check["held"]]
    assert report["ok"] and report["checks"] and not failed, f"checks that did not hold: {failed}"
    print(f"{len(cities)} cities, {len(report['checks'])} checks")


if __name__ == "__main__":
    main(sys.argv[1])
